// Lines along which values cross a level: marching squares, with linear interpolation between voxel centres.

// Which edges of a cell of four values are joined, by which of its corners (north-west 8, north-east 4, south-east 2,
// south-west 1) reach the level: 0 north, 1 east, 2 south, 3 west
const JOINED = [
  [],
  [3, 2],
  [2, 1],
  [3, 1],
  [0, 1],
  [3, 0, 2, 1],
  [0, 2],
  [3, 0],
  [3, 0],
  [0, 2],
  [3, 2, 0, 1],
  [0, 1],
  [3, 1],
  [2, 1],
  [3, 2],
  [],
];

// For every edge that a line crosses, the one or two edges where it goes on; kept between calls, all −1
let links = new Int32Array(0);

/** Upper left corners of the cells whose four values do not all lie in the same band. */
function mixedCells(bands, rows, columns) {
  const cells = [];
  for (let r = 0; r < rows - 1; r += 1) {
    const end = (r + 1) * columns - 1;
    for (let at = r * columns; at < end; at += 1) {
      const band = bands[at];
      if (bands[at + 1] !== band || bands[at + columns] !== band || bands[at + columns + 1] !== band) {
        cells.push(at);
      }
    }
  }
  return cells;
}

/**
 * Add the lines of a level to a path: long lines, since thousands of short ones are slow to draw.
 * `cells` are those that a line may cross. The value of row r, column c is at x = left + c * width, y = top + r * height.
 */
function trace(path, values, cells, columns, level, { left, top, width, height }) {
  // Edge 2 i goes from value i to the right, edge 2 i + 1 down
  if (links.length < 4 * values.length) {
    links = new Int32Array(4 * values.length).fill(-1);
  }
  const crossed = [];
  const link = (from, to) => {
    if (links[2 * from] < 0) {
      links[2 * from] = to;
      crossed.push(from);
    } else {
      links[2 * from + 1] = to;
    }
  };
  for (const at of cells) {
    const below = at + columns;
    const joined =
      JOINED[
        (values[at] >= level ? 8 : 0) |
          (values[at + 1] >= level ? 4 : 0) |
          (values[below + 1] >= level ? 2 : 0) |
          (values[below] >= level ? 1 : 0)
      ];
    if (joined.length) {
      const edges = [2 * at, 2 * at + 3, 2 * below, 2 * at + 1];
      for (let k = 0; k < joined.length; k += 2) {
        link(edges[joined[k]], edges[joined[k + 1]]);
        link(edges[joined[k + 1]], edges[joined[k]]);
      }
    }
  }
  const go = (edge, draw) => {
    const first = edge >> 1;
    const down = edge & 1;
    const from = values[first];
    const share = (level - from) / (values[first + (down ? columns : 1)] - from);
    const r = Math.floor(first / columns) + (down ? share : 0);
    const c = (first % columns) + (down ? 0 : share);
    path[draw](left + c * width, top + r * height);
  };
  const take = (edge) => {
    const next = Math.max(links[2 * edge], links[2 * edge + 1]);
    if (next >= 0) {
      const slot = links[2 * edge] === next ? 2 * edge : 2 * edge + 1;
      links[slot] = -1;
      links[links[2 * next] === edge ? 2 * next : 2 * next + 1] = -1;
    }
    return next;
  };
  // Lines that end at the border first, from their ends; then those that are closed
  const ends = crossed.filter((edge) => links[2 * edge + 1] < 0);
  for (const start of [...ends, ...crossed]) {
    let edge = take(start);
    if (edge < 0) {
      continue;
    }
    go(start, "moveTo");
    while (edge >= 0) {
      go(edge, "lineTo");
      edge = take(edge);
    }
  }
}

/** Outline of a structure in a plane, in mm from its upper left corner; null where the plane misses it. */
export function outline(masks, { box, offset }, plane, index) {
  if (!box || index < box[plane.axis][0] || index >= box[plane.axis][1]) {
    return null;
  }
  const corner = plane.place(box.map(([first]) => first));
  const opposite = plane.place(box.map(([, end]) => end - 1));
  const top = Math.min(corner[0], opposite[0]);
  const left = Math.min(corner[1], opposite[1]);
  const rows = Math.abs(corner[0] - opposite[0]) + 1;
  const columns = Math.abs(corner[1] - opposite[1]) + 1;
  const boxRows = box[1][1] - box[1][0];
  const boxColumns = box[2][1] - box[2][0];
  // A margin of zeros closes lines at the edge of the box
  const padded = new Uint8Array((rows + 2) * (columns + 2));
  for (let r = 0; r < rows; r += 1) {
    for (let c = 0; c < columns; c += 1) {
      const [z, y, x] = plane.voxel(index, top + r, left + c);
      const bit = ((z - box[0][0]) * boxRows + (y - box[1][0])) * boxColumns + (x - box[2][0]);
      padded[(r + 1) * (columns + 2) + c + 1] = (masks[offset + (bit >> 3)] >> (bit & 7)) & 1;
    }
  }
  const path = new Path2D();
  const cells = mixedCells(padded, rows + 2, columns + 2);
  trace(path, padded, cells, columns + 2, 0.5, centres(plane, top - 1, left - 1));
  return path;
}

/** Doses of a plane by screen rows and columns, and the cells where lines of some levels may be. */
export function cutDose(dose, levels, plane, index) {
  const values = new Uint16Array(plane.rows * plane.columns);
  const bands = new Uint8Array(values.length);
  const bandOf = new Uint8Array(65536);
  [...levels].sort((a, b) => a - b).forEach((level, below) => bandOf.fill(below + 1, level));
  let to = 0;
  for (let r = 0; r < plane.rows; r += 1) {
    let from = plane.first(index) + r * plane.rowStride;
    for (let c = 0; c < plane.columns; c += 1, from += plane.columnStride) {
      values[to] = dose[from];
      bands[to] = bandOf[dose[from]];
      to += 1;
    }
  }
  return { values, cells: mixedCells(bands, plane.rows, plane.columns) };
}

/** Line of a dose in a plane, from `cutDose`, in mm from its upper left corner. */
export function isodose({ values, cells }, level, plane) {
  const path = new Path2D();
  trace(path, values, cells, plane.columns, level, centres(plane, 0, 0));
  return path;
}

/** Where the centres of voxels are, beginning with a row and column of the screen. */
function centres({ row_mm, column_mm }, row, column) {
  return { left: (column + 0.5) * column_mm, top: (row + 0.5) * row_mm, width: column_mm, height: row_mm };
}

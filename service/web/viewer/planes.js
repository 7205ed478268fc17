// The three planes through a volume (slices to the head, rows to posterior, columns to the left), as seen on a screen:
// axial from the feet, coronal from the front, sagittal from the left with the face to the left of the screen.

export const NAMES = ["Axial", "Coronal", "Sagittal"];
const LETTERS = ["zyx", "yzx", "xzy"];

/** Geometry of a plane across an axis: where a screen's row and column are in the volume. */
export function planeAcross(axis, info) {
  const [slices, rows, columns] = info.shape;
  const [slice_mm, row_mm, column_mm] = info.spacing_mm;
  const slab = rows * columns;
  const head = (slices - 1) * slab;
  const shared = { axis, name: NAMES[axis], count: info.shape[axis] };
  if (axis === 0) {
    return {
      ...shared,
      rows,
      columns,
      row_mm,
      column_mm,
      edges: ["R", "L", "A", "P"],
      first: (k) => k * slab,
      rowStride: columns,
      columnStride: 1,
      voxel: (k, row, column) => [k, row, column],
      place: ([, y, x]) => [y, x],
      others: [1, 2],
    };
  }
  if (axis === 1) {
    return {
      ...shared,
      rows: slices,
      columns,
      row_mm: slice_mm,
      column_mm,
      edges: ["R", "L", "S", "I"],
      first: (k) => head + k * columns,
      rowStride: -slab,
      columnStride: 1,
      voxel: (k, row, column) => [slices - 1 - row, k, column],
      place: ([z, , x]) => [slices - 1 - z, x],
      others: [0, 2],
    };
  }
  return {
    ...shared,
    rows: slices,
    columns: rows,
    row_mm: slice_mm,
    column_mm: row_mm,
    edges: ["A", "P", "S", "I"],
    first: (k) => head + k,
    rowStride: -slab,
    columnStride: columns,
    voxel: (k, row, column) => [slices - 1 - row, column, k],
    place: ([z, y]) => [slices - 1 - z, y],
    others: [0, 1],
  };
}

/** Patient point x, y, z in mm of a voxel. */
export function pointOf(info, [z, y, x]) {
  const [z_mm, y_mm, x_mm] = info.spacing_mm;
  const [x0, y0, z0] = info.origin_mm;
  return [x0 + x * x_mm, y0 + y * y_mm, z0 + z * z_mm];
}

/** "Axial, z = −12.5 mm" */
export function titleOf(axis, info, index) {
  const voxel = [0, 0, 0];
  voxel[axis] = index;
  const letter = LETTERS[axis][0];
  const mm = pointOf(info, voxel)["xyz".indexOf(letter)];
  return `${NAMES[axis]}, ${letter} = ${mm.toFixed(1).replace("-", "−")} mm`;
}

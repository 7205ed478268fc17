// One plane on the screen: CT and wash as pixels, lines above them, letters at its edges.

import { h } from "../dom.js";
import { cutDose, isodose, outline } from "./contours.js";
import { planeAcross, titleOf } from "./planes.js";

const WHEEL_STEP = 40;
const KEPT_PATHS = 4000;
const ZOOM_STEP = 1.25;
const MOST_ZOOM = 8;

/** A view of the plane across an axis. `scene` tells what to draw; `moved(voxel)` and `pointed(voxel)` what the user does. */
export class SliceView {
  #plane;
  #scene;
  #paths = new Map();
  #pixels;
  #image;
  #wheel = 0;
  #zoom = 1;
  // Screen row and column that lie in the middle of the frame
  #centre;
  // Left and top in CSS pixels of the frame, CSS pixels per mm
  #place = { left: 0, top: 0, scale: 1 };

  constructor(axis, scene, { moved, pointed, enlarged }) {
    this.axis = axis;
    this.#scene = scene;
    this.#plane = planeAcross(axis, scene.info);
    const { rows, columns, edges, name, count } = this.#plane;
    this.pixels = h("canvas", { width: columns, height: rows, className: "pixels" });
    this.lines = h("canvas", { className: "lines" });
    this.#centre = [rows / 2, columns / 2];
    this.across = h("i", { className: "across" });
    this.down = h("i", { className: "down" });
    this.#image = new ImageData(columns, rows);
    this.#pixels = new Uint32Array(this.#image.data.buffer);
    const letters = edges.map((letter, side) =>
      h("span", { className: `edge ${["left", "right", "top", "bottom"][side]}`, "aria-hidden": "true" }, letter),
    );
    this.frame = h(
      "div",
      { className: "frame", tabIndex: 0, role: "img" },
      this.pixels,
      this.lines,
      this.across,
      this.down,
      letters,
    );
    this.title = h("span", { className: "title" });
    this.slider = h("input", {
      type: "range",
      min: 0,
      max: count - 1,
      step: 1,
      "aria-label": `${name} slice`,
      className: "slice-slider",
    });
    const button = (sign, label, onclick, className = "") =>
      h(
        "button",
        {
          type: "button",
          className: `quiet ${className}`,
          "aria-label": `${label}, ${name.toLowerCase()}`,
          title: label,
          onclick,
        },
        sign,
      );
    const tools = h(
      "span",
      {},
      button("−", "Zoom out", () => this.#zoomTo(this.#zoom / ZOOM_STEP)),
      button("+", "Zoom in", () => this.#zoomTo(this.#zoom * ZOOM_STEP)),
      button("⤢", "Enlarge", () => enlarged(this), "enlarge"),
    );
    this.element = h(
      "figure",
      { className: "view", "data-plane": name.toLowerCase() },
      h("figcaption", {}, this.title, tools),
      this.frame,
      this.slider,
    );
    this.#listen(moved, pointed);
    new ResizeObserver(() => this.#fit()).observe(this.frame);
  }

  get index() {
    return this.#scene.position[this.axis];
  }

  #listen(moved, pointed) {
    const go = (index) => {
      const position = [...this.#scene.position];
      position[this.axis] = Math.min(this.#plane.count - 1, Math.max(0, index));
      moved(position);
    };
    this.slider.addEventListener("input", () => go(Number(this.slider.value)));
    this.frame.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (event.ctrlKey || event.metaKey) {
          this.#zoomTo(this.#zoom * Math.exp(-event.deltaY / 400), this.#pointAt(event));
          return;
        }
        this.#wheel += event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * WHEEL_STEP;
        const steps = Math.trunc(this.#wheel / WHEEL_STEP);
        if (steps) {
          this.#wheel = 0;
          // Turning towards oneself goes to the feet, to posterior, to the left of the patient
          go(this.index + Math.sign(steps) * (this.axis === 0 ? -1 : 1));
        }
      },
      { passive: false },
    );
    const keys = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
    this.frame.addEventListener("keydown", (event) => {
      const index = { Home: 0, End: this.#plane.count - 1 }[event.key] ?? this.index + (keys[event.key] ?? 0);
      if (event.key in keys || event.key === "Home" || event.key === "End") {
        event.preventDefault();
        go(index);
      }
    });
    const voxelAt = (event) => {
      const [row, column] = this.#pointAt(event).map(Math.floor);
      const inside = row >= 0 && column >= 0 && row < this.#plane.rows && column < this.#plane.columns;
      return inside ? this.#plane.voxel(this.index, row, column) : null;
    };
    this.frame.addEventListener("pointermove", (event) => {
      if (event.shiftKey && event.buttons === 1) {
        this.#centre[0] -= event.movementY / (this.#place.scale * this.#plane.row_mm);
        this.#centre[1] -= event.movementX / (this.#place.scale * this.#plane.column_mm);
        this.#fit();
        return;
      }
      const voxel = voxelAt(event);
      pointed(voxel);
      if (voxel && event.buttons === 1) {
        moved(voxel);
      }
    });
    this.frame.addEventListener("pointerleave", () => pointed(null));
    this.frame.addEventListener("pointerdown", (event) => {
      const voxel = voxelAt(event);
      if (voxel && event.button === 0 && !event.shiftKey) {
        moved(voxel);
      }
    });
    this.frame.addEventListener("dblclick", () => this.#zoomTo(1));
  }

  /** Screen row and column, with fractions, under a pointer. */
  #pointAt(event) {
    const box = this.frame.getBoundingClientRect();
    const { left, top, scale } = this.#place;
    const { row_mm, column_mm } = this.#plane;
    return [
      (event.clientY - box.top - top) / (scale * row_mm),
      (event.clientX - box.left - left) / (scale * column_mm),
    ];
  }

  /** Zoom, keeping a point where it is; without one, the cross comes to the middle. */
  #zoomTo(zoom, point) {
    const next = Math.min(MOST_ZOOM, Math.max(1, zoom));
    if (point) {
      const share = this.#zoom / next;
      this.#centre = this.#centre.map((at, axis) => point[axis] + (at - point[axis]) * share);
    } else {
      this.#centre = this.#plane.place(this.#scene.position).map((at) => at + 0.5);
    }
    this.#zoom = next;
    this.#fit();
  }

  /** Put the picture into the frame in the patient's proportions: as large as it fits, times the zoom. */
  #fit() {
    const { rows, columns, row_mm, column_mm } = this.#plane;
    const { clientWidth, clientHeight } = this.frame;
    const scale = this.#zoom * Math.min(clientWidth / (columns * column_mm), clientHeight / (rows * row_mm));
    if (!scale) {
      return;
    }
    const row = row_mm * scale;
    const column = column_mm * scale;
    const begin = (axis, extent, count, size) => {
      // Never beyond an edge, unless the whole picture fits
      const least = Math.min(count / 2, extent / (2 * size));
      this.#centre[axis] = Math.min(count - least, Math.max(least, this.#centre[axis]));
      return extent / 2 - this.#centre[axis] * size;
    };
    const top = begin(0, clientHeight, rows, row);
    const left = begin(1, clientWidth, columns, column);
    this.#place = { left, top, scale };
    for (const [name, value] of Object.entries({ left, top, width: columns * column, height: rows * row })) {
      this.pixels.style[name] = `${value}px`;
    }
    const density = devicePixelRatio || 1;
    this.lines.width = Math.round(clientWidth * density);
    this.lines.height = Math.round(clientHeight * density);
    this.drawLines();
    this.placeCross();
  }

  /** Draw CT and wash. */
  drawPixels() {
    const { rows, columns, rowStride, columnStride, first } = this.#plane;
    const { ct, grey, wash, keep } = this.#scene;
    const pixels = this.#pixels;
    const { values, minus, offset, table } = wash;
    const start = first(this.index);
    let to = 0;
    for (let row = 0; row < rows; row += 1) {
      let from = start + row * rowStride;
      for (let column = 0; column < columns; column += 1, from += columnStride) {
        const level = grey[ct[from] + 32768];
        const colour = table === null ? 0 : table[minus === null ? values[from] : values[from] - minus[from] + offset];
        pixels[to] = 0xff000000 | (colour === 0 ? level * 0x010101 : colour + ((level * keep) >> 8) * 0x010101);
        to += 1;
      }
    }
    this.pixels.getContext("2d", { alpha: false }).putImageData(this.#image, 0, 0);
    this.slider.value = this.index;
    const title = titleOf(this.axis, this.#scene.info, this.index);
    this.title.textContent = title;
    const words = `${title}, slice ${this.index + 1} of ${this.#plane.count}`;
    this.slider.setAttribute("aria-valuetext", words);
    this.frame.setAttribute("aria-label", `${words}. Arrow keys change the slice.`);
  }

  /** Draw outlines and isodose lines. */
  drawLines() {
    const { structures, colours, masks, lines } = this.#scene;
    const { left, top, scale } = this.#place;
    const context = this.lines.getContext("2d");
    const density = devicePixelRatio || 1;
    context.resetTransform();
    context.clearRect(0, 0, this.lines.width, this.lines.height);
    context.setTransform(scale * density, 0, 0, scale * density, left * density, top * density);
    context.lineJoin = "round";
    const stroke = (path, colour, thickness) => {
      context.lineWidth = thickness / scale;
      context.strokeStyle = colour;
      context.stroke(path);
    };
    const levels = lines.map((line) => line.level);
    let cut = null;
    for (const { level, colour, dose, key } of lines) {
      const make = () => isodose((cut ??= cutDose(dose, levels, this.#plane, this.index)), level, this.#plane);
      stroke(this.#path(`${key}:${level}`, make), colour, 1.2);
    }
    for (const structure of structures) {
      const path = this.#path(structure.name, () => outline(masks, structure, this.#plane, this.index));
      if (path) {
        stroke(path, "rgb(0 0 0 / 45%)", structure.kind === "target" ? 3.6 : 2.8);
        stroke(path, colours[structure.name], structure.kind === "target" ? 2.2 : 1.6);
      }
    }
  }

  /** Put the cross where the other planes are. */
  placeCross() {
    const [row, column] = this.#plane.place(this.#scene.position);
    const { left, top, scale } = this.#place;
    this.across.style.transform = `translateY(${top + (row + 0.5) * this.#plane.row_mm * scale}px)`;
    this.down.style.transform = `translateX(${left + (column + 0.5) * this.#plane.column_mm * scale}px)`;
  }

  #path(key, make) {
    const full = `${key}@${this.index}`;
    if (!this.#paths.has(full)) {
      if (this.#paths.size >= KEPT_PATHS) {
        this.#paths.clear();
      }
      this.#paths.set(full, make());
    }
    return this.#paths.get(full);
  }
}

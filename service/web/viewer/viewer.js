// The slice viewer: three planes, what is drawn on them, and the controls for it.

import { h, swatch } from "../dom.js";
import { isInside, loadView } from "./arrays.js";
import { WINDOWS, css, diverging, greys, turbo, washTable } from "./colours.js";
import { pointOf } from "./planes.js";
import { SliceView } from "./slice_view.js";

const HELP =
  "Wheel, arrow keys or slider: slice. Click: move the other planes. Ctrl and wheel: zoom. Shift and drag: move. " +
  "Double click: all of it.";
const VALUES = 65536;
const COLOURED_TO = 1.15;
const DIFFERENCE_LIMIT = 0.1;
const DIFFERENCE_FROM = 0.01;
const SHARES = [1.07, 1, 0.8, 0.5, 0.2];

/** Doses whose lines are drawn: parts of the highest prescription, and 95 % of each, highest first. */
function isodoseLevels(prescriptions) {
  const highest = Math.max(...prescriptions);
  const levels = [...SHARES.map((share) => share * highest), ...prescriptions.map((dose) => 0.95 * dose)];
  return [...new Set(levels.map((dose) => Math.round(100 * dose) / 100))].sort((a, b) => b - a);
}

/**
 * Show the viewer of a job in an element. `choice` (see shown.js) says which structures are shown and in which unit
 * doses are given. Resolves when everything is loaded and drawn.
 */
export async function showViewer(element, path, choice, signal) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Loading images" });
  element.replaceChildren(h("p", { className: "loading" }, bar, h("span", { className: "muted" }, "Loading images …")));
  const view = await loadView(path, signal, (share) => {
    bar.value = share;
  });
  const { info } = view;
  const highest = Math.max(...Object.values(info.prescription_gy));
  const settings = {
    dose: "dose",
    wash: true,
    opacity: 0.4,
    from: 0.1,
    lines: true,
    hiddenLevels: new Set(),
    level: 40,
    width: 400,
  };
  const levels = isodoseLevels(Object.values(info.prescription_gy));
  // A hot spot does not change what colours mean
  const top = COLOURED_TO * highest;
  const colourOfGy = (dose) => turbo(dose / top);
  const scene = {
    info,
    ct: view.ct,
    masks: view.masks,
    colours: choice.colours,
    position: [...info.start],
    lines: [],
    structures: [],
  };

  const compared = () => settings.dose === "difference";
  const shownDose = () => (settings.dose === "reference" ? view.reference : view.dose);

  const refreshGrey = () => {
    scene.grey = greys(settings.level, settings.width);
  };
  const refreshWash = () => {
    const opacity = settings.wash ? settings.opacity : 0;
    scene.keep = Math.round(256 * (1 - opacity));
    const colour = compared()
      ? (units) => {
          const share = (units * info.unit_gy) / highest;
          return Math.abs(share) < DIFFERENCE_FROM ? null : diverging(share / DIFFERENCE_LIMIT);
        }
      : (units) =>
          units * info.unit_gy < Math.max(settings.from * highest, info.unit_gy)
            ? null
            : colourOfGy(units * info.unit_gy);
    const offset = compared() ? VALUES : 0;
    const table = opacity ? washTable(compared() ? 2 * VALUES : VALUES, offset, opacity, colour) : null;
    scene.wash = { values: shownDose(), minus: compared() ? view.reference : null, offset, table };
  };
  const refreshLines = () => {
    const wanted = settings.lines
      ? levels.filter((gy) => !settings.hiddenLevels.has(gy) && gy >= settings.from * highest)
      : [];
    scene.lines = wanted.map((gy) => ({
      level: Math.round(gy / info.unit_gy),
      colour: css(colourOfGy(gy)),
      dose: shownDose(),
      key: settings.dose === "reference" ? "reference" : "dose",
    }));
    scene.structures = info.structures.filter(({ name }) => choice.isShown(name));
  };

  // Whatever happens between two frames is drawn once
  const dirty = { pixels: new Set(), lines: new Set(), frame: 0 };
  const draw = () => {
    dirty.frame = 0;
    dirty.pixels.forEach((each) => each.drawPixels());
    dirty.lines.forEach((each) => each.drawLines());
    views.forEach((each) => each.placeCross());
    dirty.pixels.clear();
    dirty.lines.clear();
    showReadout();
  };
  const request = (pixels, lines) => {
    pixels.forEach((each) => dirty.pixels.add(each));
    lines.forEach((each) => dirty.lines.add(each));
    dirty.frame ||= requestAnimationFrame(draw);
  };

  let pointed = null;
  const readout = readoutLine(view, highest, choice.colours);
  const showReadout = () => readout.show(pointed ?? scene.position);

  const views = [];
  const events = {
    moved: (position) => {
      const changed = views.filter((each) => each.index !== position[each.axis]);
      scene.position = position;
      request(changed, changed);
    },
    pointed: (voxel) => {
      pointed = voxel;
      request([], []);
    },
    enlarged: (which) => {
      views.forEach((each) => each.element.classList.toggle("large", each === which));
      which.frame.focus();
    },
  };
  views.push(...[0, 1, 2].map((axis) => new SliceView(axis, scene, events)));
  views[0].element.classList.add("large");

  const all = () => {
    refreshWash();
    refreshLines();
    request(views, views);
  };
  const panel = h(
    "div",
    { className: "panel" },
    doseControls({
      settings,
      info,
      choice,
      highest,
      top,
      colourOfGy,
      levels,
      changed: all,
      hasReference: info.has_reference,
    }),
    windowControls(settings, () => {
      refreshGrey();
      request(views, []);
    }),
    structureControls(info, choice, signal),
  );
  choice.subscribe(() => {
    refreshLines();
    request([], views);
  }, signal);

  refreshGrey();
  refreshWash();
  refreshLines();
  element.replaceChildren(
    readout.element,
    h(
      "div",
      { className: "planes" },
      views.map((each) => each.element),
    ),
    panel,
    h("p", { className: "muted small help" }, HELP),
  );
  const done = new Promise((resolve) => {
    requestAnimationFrame(() => requestAnimationFrame(resolve));
  });
  request(views, views);
  await done;
  element.dataset.ready = "true";
}

/** The line that tells what is at a voxel. Its parts stay: making them anew for every frame would cost time. */
function readoutLine({ info, ct, dose, reference, masks }, highest, colours) {
  const part = (label) => {
    const value = document.createTextNode("");
    return { value, element: h("span", {}, h("b", {}, label), " ", value) };
  };
  const [hu, gy, plan, difference, place] = ["CT", "Dose", "Plan", "Difference", "x, y, z"].map(part);
  const inside = h("span", { className: "inside" });
  const named = info.structures.filter(({ kind }) => kind !== "external");
  const parts = [hu, gy, ...(reference ? [plan, difference] : []), place];
  const element = h(
    "output",
    { className: "readout", "aria-live": "off" },
    parts.map((each) => each.element),
    inside,
  );
  let names = "";
  const show = (voxel) => {
    const at = (voxel[0] * info.shape[1] + voxel[1]) * info.shape[2] + voxel[2];
    const predicted = dose[at] * info.unit_gy;
    hu.value.data = `${minus(ct[at])} HU`;
    gy.value.data = `${predicted.toFixed(2)} Gy, ${((100 * predicted) / highest).toFixed(1)} % of ${highest} Gy`;
    if (reference) {
      const planned = reference[at] * info.unit_gy;
      plan.value.data = `${planned.toFixed(2)} Gy`;
      difference.value.data = `${predicted < planned ? "" : "+"}${minus((predicted - planned).toFixed(2))} Gy`;
    }
    place.value.data = `${pointOf(info, voxel)
      .map((mm) => minus(mm.toFixed(0)))
      .join(", ")} mm`;
    const structures = named.filter((structure) => isInside(masks, structure, voxel));
    const found = structures.map(({ name }) => name).join();
    if (found !== names) {
      names = found;
      inside.replaceChildren(...structures.map(({ name }) => h("span", {}, swatch(colours[name]), name)));
    }
  };
  return { element, show };
}

function minus(number) {
  return String(number).replace("-", "−");
}

function group(title, ...children) {
  return h("fieldset", {}, h("legend", {}, title), children);
}

function check(label, checked, changed, ...marks) {
  return h(
    "label",
    { className: "check" },
    h("input", { type: "checkbox", checked, onchange: (event) => changed(event.target.checked) }),
    marks,
    h("span", {}, label),
  );
}

function slider(label, options, shown, changed) {
  const output = h("output", {}, shown(options.value));
  const input = h("input", {
    type: "range",
    ...options,
    "aria-label": label,
    oninput: () => {
      const value = Number(input.value);
      tell(value);
      changed(value);
    },
  });
  const tell = (value) => {
    output.textContent = shown(value);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  tell(options.value);
  return {
    element: h("div", { className: "range" }, h("span", {}, label, output), input),
    refresh: () => tell(Number(input.value)),
  };
}

function radios(name, options, chosen, changed) {
  return h(
    "div",
    { className: "radios", role: "radiogroup", "aria-label": name },
    options.map(([value, text]) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => changed(value) }),
        h("span", {}, text),
      ),
    ),
  );
}

function doseControls({ settings, info, choice, highest, top, colourOfGy, levels, changed, hasReference }) {
  const percent = (dose) => Math.round((1000 * dose) / highest) / 10;
  const words = (dose, decimals) => (choice.unit === "Gy" ? `${dose.toFixed(decimals)} Gy` : `${percent(dose)} %`);
  const opacity = slider(
    "Opacity",
    { min: 0, max: 100, step: 1, value: 100 * settings.opacity },
    (value) => `${value} %`,
    (value) => {
      settings.opacity = value / 100;
      changed();
    },
  );
  const from = slider(
    "Show from",
    { min: 0, max: 110, step: 1, value: 100 * settings.from },
    (value) => words((value / 100) * highest, 1),
    (value) => {
      settings.from = value / 100;
      changed();
    },
  );
  const scale = h("canvas", { className: "scale", width: 256, height: 1, "aria-hidden": "true" });
  const ends = h("div", { className: "scale-ends" });
  const refreshScale = () => {
    const difference = settings.dose === "difference";
    const context = scale.getContext("2d");
    for (let x = 0; x < 256; x += 1) {
      context.fillStyle = css(difference ? diverging((x - 127.5) / 127.5) : colourOfGy((x / 255) * top));
      context.fillRect(x, 0, 1, 1);
    }
    const limit = DIFFERENCE_LIMIT * highest;
    const texts = difference
      ? [`−${words(limit, 1)}`, "0", `+${words(limit, 1)}`]
      : [words(0, 0), words(top / 2, 0), `${info.highest_gy > top ? "≥ " : ""}${words(top, 0)}`];
    ends.replaceChildren(...texts.map((text) => h("span", {}, text)));
  };
  const list = h("div", { className: "levels" });
  const refreshLevels = () => {
    list.replaceChildren(
      ...levels.map((gy) =>
        check(
          choice.unit === "Gy" ? `${gy.toFixed(1)} Gy` : `${percent(gy)} %`,
          !settings.hiddenLevels.has(gy),
          (on) => {
            settings.hiddenLevels[on ? "delete" : "add"](gy);
            changed();
          },
          swatch(css(colourOfGy(gy))),
        ),
      ),
    );
  };
  const unit = radios(
    "Unit",
    [
      ["Gy", "Gy"],
      ["%", "% of prescription"],
    ],
    choice.unit,
    (value) => {
      choice.setUnit(value);
      from.refresh();
      refreshScale();
      refreshLevels();
    },
  );
  refreshScale();
  refreshLevels();
  return group(
    "Dose",
    hasReference
      ? radios(
          "Shown dose",
          [
            ["dose", "Predicted"],
            ["reference", "Plan"],
            ["difference", "Difference"],
          ],
          settings.dose,
          (value) => {
            settings.dose = value;
            refreshScale();
            changed();
          },
        )
      : null,
    unit,
    h("p", { className: "muted small" }, `100 % is ${highest} Gy`),
    check("Colour wash", settings.wash, (on) => {
      settings.wash = on;
      changed();
    }),
    scale,
    ends,
    opacity.element,
    from.element,
    check("Isodose lines", settings.lines, (on) => {
      settings.lines = on;
      changed();
    }),
    list,
  );
}

function windowControls(settings, changed) {
  const presets = h(
    "select",
    { "aria-label": "Window preset" },
    WINDOWS.map(([name], index) => h("option", { value: index }, name)),
    h("option", { value: "own" }, "Own"),
  );
  const number = (label, name, min) =>
    h(
      "label",
      {},
      `${label} `,
      h("input", {
        type: "number",
        value: settings[name],
        min,
        max: 4000,
        step: 10,
        name: `window-${name}`,
        oninput: (event) => {
          const value = event.target.valueAsNumber;
          if (value >= min) {
            settings[name] = value;
            presets.value = "own";
            changed();
          }
        },
      }),
    );
  const level = number("Level", "level", -1000);
  const width = number("Width", "width", 1);
  presets.addEventListener("change", () => {
    const [, newLevel, newWidth] = WINDOWS[presets.value] ?? ["", settings.level, settings.width];
    Object.assign(settings, { level: newLevel, width: newWidth });
    level.firstElementChild.value = newLevel;
    width.firstElementChild.value = newWidth;
    changed();
  });
  return group("Window in HU", h("div", { className: "numbers" }, presets, level, width));
}

function structureControls(info, choice, signal) {
  const boxes = new Map();
  const list = h(
    "div",
    { className: "structures" },
    info.structures.map(({ name, box }) => {
      const label = check(name, choice.isShown(name), (on) => choice.show(name, on), swatch(choice.colours[name]));
      boxes.set(name, label.firstElementChild);
      label.title = box ? name : `${name} holds no voxel`;
      return label;
    }),
  );
  const set = (wanted) => () => choice.showOnly(info.structures.filter(wanted).map(({ name }) => name));
  choice.subscribe(() => {
    boxes.forEach((box, name) => {
      box.checked = choice.isShown(name);
    });
  }, signal);
  return group(
    "Structures",
    h(
      "div",
      { className: "quick" },
      h("button", { type: "button", className: "quiet", onclick: set(() => true) }, "All"),
      h("button", { type: "button", className: "quiet", onclick: set(({ kind }) => kind === "target") }, "Targets"),
      h("button", { type: "button", className: "quiet", onclick: set(() => false) }, "None"),
    ),
    list,
  );
}

// Dose-volume histograms, drawn by uPlot.

import { h, swatch } from "./dom.js";

const HEIGHT = 380;
const NEAR_PX = 40;

/** Show the DVHs of a report; structures are those of `choice`. */
export async function showDvh(element, report, choice, signal) {
  if (!report.structures.some((s) => s.dose && s.kind !== "external")) {
    element.replaceChildren(h("p", { className: "muted" }, "No structure has a volume."));
    return;
  }
  const { default: uPlot } = await import("./vendor/uPlot.esm.js");
  const structures = report.structures.filter((s) => s.dose && s.kind !== "external");
  const highest = Math.max(...Object.values(report.prescription.dose_gy));
  const curves = structures.flatMap((structure) => [
    { structure, curve: structure.dose.dvh, isReference: false },
    ...(structure.reference ? [{ structure, curve: structure.reference.dvh, isReference: true }] : []),
  ]);
  // All curves have the same steps; short ones have come to nothing
  const gy = curves.reduce(
    (longest, { curve }) => (curve.dose_gy.length > longest.length ? curve.dose_gy : longest),
    [],
  );
  const volumes = curves.map(({ curve }) => gy.map((_, i) => curve.volume_percent[i] ?? null));
  const target = h("div", { className: "chart" });
  const reading = h("p", { className: "reading muted", role: "status" });
  const hint = "Point at a curve to read it.";
  reading.textContent = hint;
  let chart = null;

  const inUnit = (dose) => (choice.unit === "Gy" ? dose : (100 * dose) / highest);
  const unitText = () => (choice.unit === "Gy" ? "Gy" : "%");

  const build = () => {
    chart?.destroy();
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--muted").trim();
    const line = style.getPropertyValue("--line").trim();
    const axis = (label, size) => ({
      label,
      labelSize: 24,
      size,
      stroke: ink,
      grid: { stroke: line, width: 1 },
      ticks: { stroke: line, width: 1, size: 4 },
      font: "12px system-ui, sans-serif",
      labelFont: "12px system-ui, sans-serif",
    });
    const prescribed = (u) => {
      for (const { name, prescription_gy: dose } of structures.filter((s) => s.prescription_gy)) {
        const x = Math.round(u.valToPos(inUnit(dose), "x", true)) + 0.5;
        u.ctx.save();
        u.ctx.strokeStyle = choice.colours[name];
        u.ctx.globalAlpha = 0.7;
        u.ctx.setLineDash([]);
        u.ctx.lineWidth = devicePixelRatio;
        u.ctx.beginPath();
        u.ctx.moveTo(x, u.bbox.top);
        u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
        u.ctx.stroke();
        u.ctx.restore();
      }
    };
    chart = new uPlot(
      {
        width: Math.max(280, target.clientWidth),
        height: HEIGHT,
        legend: { show: false },
        cursor: { focus: { prox: NEAR_PX }, drag: { x: false, y: false }, points: { size: 7 } },
        focus: { alpha: 0.25 },
        scales: { x: { time: false, range: [0, inUnit(gy.at(-1))] }, y: { range: [0, 102] } },
        axes: [
          axis(choice.unit === "Gy" ? "Dose in Gy" : "Dose in % of the highest prescription", 36),
          axis("Volume in %", 42),
        ],
        series: [
          {},
          ...curves.map(({ structure, isReference }) => ({
            label: structure.name,
            stroke: choice.colours[structure.name],
            width: structure.kind === "target" ? 2.5 : 1.8,
            dash: isReference ? [6, 4] : undefined,
            show: choice.isShown(structure.name),
            points: { show: false },
          })),
        ],
        hooks: { setSeries: [(u, index) => read(u, index)], setCursor: [(u) => read(u, focused)], draw: [prescribed] },
      },
      [gy.map(inUnit), ...volumes],
      target,
    );
  };

  let focused = null;
  const read = (u, index) => {
    focused = index;
    const at = u.cursor.idx;
    const volume = index && at !== null && at !== undefined ? u.data[index][at] : null;
    if (volume === null || volume === undefined) {
      reading.textContent = hint;
      return;
    }
    const { structure, isReference } = curves[index - 1];
    const text = `${structure.name}${isReference ? " in the plan" : ""}: ${volume.toFixed(1)} % of the volume gets at least ${u.data[0][at].toFixed(1)} ${unitText()}`;
    reading.replaceChildren(swatch(choice.colours[structure.name]), text);
  };

  const buttons = structures.map(({ name }) =>
    h(
      "button",
      { type: "button", className: "quiet", onclick: () => choice.show(name, !choice.isShown(name)) },
      swatch(choice.colours[name]),
      name,
    ),
  );
  const markButtons = () =>
    structures.forEach(({ name }, index) => buttons[index].setAttribute("aria-pressed", String(choice.isShown(name))));

  const lines = structures.some((s) => s.reference) ? "Solid: predicted. Dashed: plan. " : "";
  element.replaceChildren(
    h("div", {}, reading, target),
    h("div", { className: "legend" }, buttons, h("p", { className: "muted small" }, lines, "Upright: prescribed.")),
  );
  build();
  markButtons();
  let unit = choice.unit;
  choice.subscribe(() => {
    if (unit !== choice.unit) {
      unit = choice.unit;
      build();
    }
    curves.forEach(({ structure }, index) => {
      if (chart.series[index + 1].show !== choice.isShown(structure.name)) {
        chart.setSeries(index + 1, { show: choice.isShown(structure.name) });
      }
    });
    markButtons();
  }, signal);
  document.addEventListener("theme", build, { signal });
  const sizes = new ResizeObserver(() => {
    if (Math.abs(target.clientWidth - chart.width) > 1) {
      chart.setSize({ width: target.clientWidth, height: HEIGHT });
    }
  });
  sizes.observe(target);
  signal.addEventListener("abort", () => {
    sizes.disconnect();
    chart.destroy();
  });
}

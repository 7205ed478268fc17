// The report's figures and clinical goals as tables, with the digits of the printed report.

import { h, swatch } from "./dom.js";
import { figure } from "./words.js";

const TARGET_COLUMNS = [
  ["D98% (Gy)", "d98_gy"],
  ["D95% (Gy)", "d95_gy"],
  ["D50% (Gy)", "d50_gy"],
  ["D2% (Gy)", "d2_gy"],
  ["Mean (Gy)", "mean_gy"],
  ["V95% (%)", "v95_percent"],
  ["V107% (%)", "v107_percent"],
  ["HI", "homogeneity_index"],
  ["CI", "conformity_index"],
];
const ORGAN_COLUMNS = [
  ["Mean (Gy)", "mean_gy"],
  ["Max (Gy)", "max_gy"],
  ["D0.1cc (Gy)", "d0_1cc_gy"],
  ["D2cc (Gy)", "d2cc_gy"],
  ["D50% (Gy)", "d50_gy"],
];

function signed(value, name) {
  return value === null || value === undefined ? "" : `${value > 0 ? "+" : ""}${figure(value, name)}`;
}

function table(caption, columns, structures, colours, withPrescription) {
  const compared = structures.some((s) => s.difference);
  return h(
    "div",
    { className: "scroll" },
    h(
      "table",
      { className: "figures" },
      h("caption", {}, caption, compared ? h("small", {}, " Small figures: predicted minus plan.") : null),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          [
            "Structure",
            ...(withPrescription ? ["Prescribed (Gy)"] : []),
            "Volume (cc)",
            ...columns.map(([text]) => text),
          ].map((text) => h("th", { scope: "col" }, text)),
        ),
      ),
      h(
        "tbody",
        {},
        structures.map((s) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, swatch(colours[s.name]), s.name),
            withPrescription ? h("td", {}, figure(s.prescription_gy, "prescription_gy")) : null,
            h("td", {}, figure(s.volume_cc, "volume_cc")),
            columns.map(([, name]) =>
              h(
                "td",
                {},
                figure(s.dose?.metrics[name], name),
                s.difference ? h("small", {}, signed(s.difference[name], name)) : null,
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

/** Figures of targets and organs. */
export function figureTables(report, colours) {
  const targets = report.structures.filter((s) => s.kind === "target");
  const organs = report.structures.filter((s) => s.kind === "oar");
  return [
    targets.length ? table("Targets", TARGET_COLUMNS, targets, colours, true) : null,
    organs.length ? table("Organs at risk", ORGAN_COLUMNS, organs, colours, false) : null,
  ];
}

/** Clinical goals and whether they are met; null if the report has none. */
export function goalsTable(report) {
  const goals = report.goals;
  if (!goals?.results.length) {
    return null;
  }
  const verdict = ({ met, value }) => {
    if (met === null) {
      return h("span", { className: "muted" }, value === null ? "No value" : "–");
    }
    return h("span", { className: met ? "met" : "missed" }, met ? "✓ met" : "✗ not met");
  };
  const compared = goals.results.some((goal) => goal.reference_value !== null);
  const heads = ["Structure", "Goal", "Predicted", ...(compared ? ["Plan"] : []), "Margin", "", "Meaning"];
  return h(
    "div",
    { className: "scroll" },
    h(
      "table",
      { className: "figures goals" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map((text) => h("th", { scope: "col" }, text || h("span", { className: "unseen" }, "Verdict"))),
        ),
      ),
      h(
        "tbody",
        {},
        goals.results.map((goal) => {
          const written = (value) => figure(value, goal.unit === "Gy" ? "gy" : "percent");
          return h(
            "tr",
            {},
            h("th", { scope: "row" }, goal.structure),
            h("td", {}, `${goal.metric} ${goal.at_most ? "≤" : "≥"} ${written(goal.limit)} ${goal.unit}`),
            h("td", {}, written(goal.value)),
            compared ? h("td", {}, written(goal.reference_value)) : null,
            h("td", {}, written(goal.margin)),
            h("td", {}, verdict(goal)),
            h("td", { className: "meaning", title: goals.sources[goal.source] ?? goal.source }, goal.meaning),
          );
        }),
      ),
    ),
  );
}

// Which ROI of the study is used as which structure, as a list and as fields to correct it.

import { h } from "./dom.js";

/** Found ROI → used as, missing structures and unused ROIs. */
export function mappingList(job) {
  const used = Object.entries(job.structures).sort(([, a], [, b]) => a.localeCompare(b));
  return h(
    "div",
    {},
    h("p", { className: "muted" }, "ROIs of the study and what each is used as:"),
    h(
      "ul",
      { className: "mapping" },
      used.map(([roi, name]) => h("li", {}, `${roi} → `, h("b", {}, name))),
    ),
    job.missing_structures.length
      ? h("p", {}, h("strong", {}, "Not in the study: "), job.missing_structures.join(", "))
      : null,
    job.unused_rois.length ? h("p", {}, h("strong", {}, "Not used: "), job.unused_rois.join(", ")) : null,
  );
}

let editors = 0;

/**
 * Fields for the structures of a model's site.
 * `rois`: names of the study's ROIs, as far as they are known; `used`: structure → ROI, as the service found;
 * `given`: structure → ROI, as was asked for. `read()` returns structure → ROI for what is not left to the service.
 */
export function mappingEditor(site, { rois, used, given }) {
  const listId = `rois-${(editors += 1)}`;
  const inputs = [];
  const row = (name) => {
    const input = h("input", {
      name,
      list: listId,
      value: given[name] ?? "",
      placeholder: used[name] ?? "automatic",
      autocomplete: "off",
      spellcheck: false,
      id: `${listId}-${name}`,
    });
    inputs.push(input);
    return h("div", { className: "field" }, h("label", { for: input.id }, name), input);
  };
  const targets = site.target_levels.map((level) => row(level.name));
  const organs = [...site.organs.map((organ) => organ.name), "External"].map(row);
  const element = h(
    "fieldset",
    { className: "mapping-editor" },
    h("legend", {}, "Say which ROI is what"),
    h(
      "p",
      { className: "muted" },
      "Only what you fill in is changed. If you name a target, the named ones are the only targets.",
    ),
    h(
      "datalist",
      { id: listId },
      rois.map((roi) => h("option", { value: roi })),
    ),
    h("div", { className: "fields" }, targets),
    h("div", { className: "fields" }, organs),
  );
  const read = () =>
    Object.fromEntries(inputs.filter((input) => input.value.trim()).map((input) => [input.name, input.value.trim()]));
  return { element, read };
}

// The form of a job's parameters. What is left empty is not sent: the service then knows better.

import { h } from "./dom.js";
import { simulatedNote } from "./simulated.js";
import { SAMPLERS } from "./words.js";

const SAMPLERS_OF = {
  diffdp: ["coarse-ddim", "ddim", "dpm-solver", "ancestral", "coarse"],
  "diffdp-residual": ["ddim", "dpm-solver", "ancestral", "coarse"],
  baseline: ["ddim", "dpm-solver", "ancestral"],
};
const MANY_STEPS = new Set(["ddim", "dpm-solver", "coarse-ddim"]);

function field(label, control, hint) {
  const id = `parameter-${control.name}`;
  control.id = id;
  const described = hint ? h("small", { id: `${id}-hint`, className: "muted" }, hint) : null;
  if (described) {
    control.setAttribute("aria-describedby", described.id);
  }
  return h("div", { className: "field" }, h("label", { for: id }, label), control, described);
}

function numberInput(name, options) {
  return h("input", { type: "number", name, inputMode: "decimal", ...options });
}

/** "70" → 70; "PTV_7000 = 70, PTV_5600 = 56" → {PTV_7000: 70, PTV_5600: 56}; undefined for nothing; null if unclear. */
export function readPrescription(text) {
  if (!text.trim()) {
    return undefined;
  }
  if (/^[0-9]+([.][0-9]+)?$/.test(text.trim())) {
    return Number(text);
  }
  const doses = {};
  for (const part of text.split(/[,;\n]/).filter((piece) => piece.trim())) {
    const match = /^\s*(.+?)\s*[=:]\s*([0-9]+(?:[.][0-9]+)?)\s*(?:Gy)?\s*$/i.exec(part);
    if (!match) {
      return null;
    }
    doses[match[1]] = Number(match[2]);
  }
  return doses;
}

/** Make the fields; `read()` returns the parameters or null, after showing what is wrong. */
export function parametersForm(models) {
  const model = h(
    "select",
    { name: "model" },
    h("option", { value: "" }, "Automatic, by the site"),
    models.map((m) => {
      const data = m.training.simulated ? ", simulated data" : "";
      return h("option", { value: m.name }, `${m.name}, ${m.site.name}${data}`);
    }),
  );
  const simulated = models.filter((m) => m.training.simulated);
  const hint = simulated.length ? `Trained on simulated data only: ${simulated.map((m) => m.name).join(", ")}` : "";
  const note = h("div");
  const prescription = h("input", {
    name: "prescription_gy",
    placeholder: "from plan or names",
    autocomplete: "off",
    spellcheck: false,
  });
  const fractions = numberInput("fractions", { min: 1, max: 100, placeholder: "from the plan" });
  const sampler = h("select", { name: "sampler" });
  const steps = numberInput("steps", { min: 1, max: 1000 });
  const samples = numberInput("samples", { min: 1, max: 32 });
  const seed = numberInput("seed", { min: 0, max: 2 ** 31 - 1, value: "0" });
  const grid = numberInput("dose_grid_mm", { min: 1, max: 10, step: "any", placeholder: "as the CT" });
  const histograms = h("input", { type: "checkbox", id: "parameter-dvh_in_dose" });
  const priority = h(
    "select",
    { name: "priority" },
    [
      ["0", "Normal"],
      ["5", "High"],
      ["-5", "Low"],
    ].map(([value, text]) => h("option", { value }, text)),
  );

  const fill = () => {
    const chosen = models.find((m) => m.name === model.value) ?? models[0];
    const defaults = chosen?.defaults;
    const known = chosen ? (SAMPLERS_OF[chosen.architecture.kind] ?? [defaults.sampler]) : [];
    const fallback = defaults ? `${SAMPLERS[defaults.sampler]}, default` : "Default";
    const others = known.filter((name) => name !== defaults?.sampler);
    sampler.replaceChildren(
      h("option", { value: "" }, fallback),
      ...others.map((name) => h("option", { value: name }, SAMPLERS[name])),
    );
    steps.placeholder = defaults ? String(defaults.steps) : "";
    samples.placeholder = defaults ? String(defaults.samples) : "";
    note.replaceChildren(...(model.value && simulated.includes(chosen) ? [simulatedNote()] : []));
    stepsApply();
  };
  const stepsApply = () => {
    steps.disabled = Boolean(sampler.value) && !MANY_STEPS.has(sampler.value);
  };
  model.addEventListener("change", fill);
  sampler.addEventListener("change", stepsApply);
  fill();

  prescription.addEventListener("input", () => prescription.setCustomValidity(""));

  const read = () => {
    const doses = readPrescription(prescription.value);
    if (doses === null) {
      prescription.setCustomValidity("Write one number, or each target with its dose: PTV_7000 = 70, PTV_5600 = 56");
    }
    const inputs = [prescription, fractions, steps, samples, seed, grid];
    if (!inputs.every((input) => input.reportValidity())) {
      return null;
    }
    const given = { seed: Number(seed.value || 0) };
    if (doses !== undefined) {
      given.prescription_gy = doses;
    }
    for (const choice of [model, sampler]) {
      if (choice.value) {
        given[choice.name] = choice.value;
      }
    }
    for (const input of [fractions, steps, samples, grid]) {
      if (input.value && !input.disabled) {
        given[input.name] = Number(input.value);
      }
    }
    if (histograms.checked) {
      given.dvh_in_dose = true;
    }
    if (priority.value !== "0") {
      given.priority = Number(priority.value);
    }
    return given;
  };

  const fields = h(
    "div",
    { className: "parameters" },
    note,
    h(
      "div",
      { className: "fields" },
      field("Model", model, hint),
      field("Prescription in Gy", prescription, "One number, or PTV_7000 = 70, PTV_5600 = 56"),
      field("Sampler", sampler),
      field("Samples", samples, "More than one also gives a spread"),
      field("Seed", seed, "The same seed gives the same dose"),
    ),
    h(
      "details",
      {},
      h("summary", {}, "More"),
      h(
        "div",
        { className: "fields" },
        field("Steps", steps),
        field("Fractions", fractions),
        field("Dose grid in mm", grid),
        field("Priority", priority),
        h(
          "div",
          { className: "field check" },
          histograms,
          h("label", { for: "parameter-dvh_in_dose" }, "Write DVHs into the RTDOSE"),
        ),
      ),
    ),
  );
  return { fields, read };
}

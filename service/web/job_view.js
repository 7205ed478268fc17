// One job: how far it is, why it failed, or what came out.

import { actionButtons } from "./actions.js";
import { call, download, getJson } from "./api.js";
import { announce, h, keepFocus } from "./dom.js";
import { showDvh } from "./dvh.js";
import { follow } from "./follow.js";
import { mappingEditor, mappingList } from "./mapping.js";
import { problemBox } from "./problem.js";
import { progressOf, stateChip } from "./progress.js";
import { figureTables, goalsTable } from "./report_tables.js";
import { Shown } from "./shown.js";
import { simulatedNote } from "./simulated.js";
import { sentFor, submit } from "./submission.js";
import { structureColours } from "./viewer/colours.js";
import { showViewer } from "./viewer/viewer.js";
import { FINAL, SAMPLERS, moment, prescription, sentence, shortId, stateWord } from "./words.js";

const DOWNLOADS = [
  ["Dose (RTDOSE)", "dose", "application/dicom"],
  ["Plan (RTPLAN)", "plan", "application/dicom"],
  ["Report, PDF", "report", "application/pdf"],
  ["Report, HTML", "report", "text/html"],
  ["Report, CSV", "report", "text/csv"],
  ["Report, JSON", "report", "application/json"],
  ["All files (zip)", "archive", "application/zip"],
];
const SOURCES = {
  plan: "from the plan",
  "structure-name": "from the targets' names",
  parameter: "as given",
  "data-set": "from the data set",
};

/** Show a job until the signal aborts; `open` shows another. */
export async function showJob(main, signal, id, open) {
  const trouble = h("div");
  const head = h("section", { className: "card job-head" });
  const body = h("div");
  main.replaceChildren(trouble, head, body);
  const failed = (error) => {
    if (!signal.aborted) {
      trouble.replaceChildren(problemBox(error));
    }
  };
  let job;
  try {
    job = await getJson(`/v1/jobs/${id}`, { signal });
  } catch (error) {
    head.remove();
    failed(error);
    return;
  }

  const gone = () => {
    location.hash = "#/";
  };
  const results = h("div");
  const warnings = h("div");
  let shownState = null;
  const show = (next) => {
    if (!next) {
      gone();
      return;
    }
    if (shownState && next.state !== shownState && FINAL.has(next.state)) {
      announce(`Job ${shortId(next)}: ${stateWord(next)}`);
    }
    job = next;
    keepFocus(head, () => head.replaceChildren(...headOf(job, { done: reload, failed, deleted: gone })));
    warnings.replaceChildren(...warningsOf(job.warnings));
    if (shownState !== job.state) {
      shownState = job.state;
      results.replaceChildren();
      if (job.state === "succeeded") {
        showResults(results, job, signal).catch((error) => signal.aborted || failed(error));
      }
    }
  };
  // What was found in the study does not change any more, and may be under correction
  const structures = card("Structures", "mapping-card", mappingList(job), correction(job, signal, open));
  const notes = job.simulated_training_data ? [simulatedNote()] : [];
  body.replaceChildren(...notes, results, warnings, structures);
  const track = () =>
    follow(job, signal, show, (error) => trouble.replaceChildren(...(error ? [problemBox(error)] : [])));
  async function reload() {
    try {
      const wasFinal = FINAL.has(job.state);
      show(await getJson(job.links.self, { signal }));
      if (wasFinal) {
        track();
      }
    } catch (error) {
      failed(error);
    }
  }
  show(job);
  await track();
}

function headOf(job, { done, failed, deleted }) {
  const parameters = job.parameters;
  const facts = [
    ["Model", job.model],
    [
      "Prescription",
      `${prescription(parameters.prescription_gy)} Gy, ${SOURCES[parameters.prescription_source] ?? ""}`,
    ],
    ["Fractions", parameters.fractions ?? "not known"],
    ["Sampler", `${SAMPLERS[parameters.sampler] ?? parameters.sampler}, ${count(parameters.steps, "step")}`],
    ["Samples", `${parameters.samples}, seed ${parameters.seed}`],
    ["Posted", moment(job.created_at)],
  ];
  return [
    h(
      "div",
      { className: "bar" },
      h("h1", { title: job.id }, h("a", { href: "#/" }, "Jobs"), ` / ${shortId(job)} `, stateChip(job)),
      h("div", { className: "actions" }, downloads(job, failed), actionButtons(job, { done, failed, deleted })),
    ),
    h(
      "dl",
      { className: "facts" },
      facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    ),
    job.error || !FINAL.has(job.state) ? progressOf(job) : null,
    job.duplicate_of
      ? h(
          "p",
          { className: "muted" },
          "The same study and parameters were sent before: ",
          h("a", { href: `#/jobs/${job.duplicate_of}` }, `job ${job.duplicate_of.slice(0, 8)}`),
        )
      : null,
  ].filter(Boolean);
}

function count(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

function downloads(job, failed) {
  if (job.state !== "succeeded") {
    return null;
  }
  const menu = h(
    "details",
    { className: "menu" },
    h("summary", {}, "Download"),
    h(
      "div",
      {},
      DOWNLOADS.map(([label, link, accept]) =>
        h(
          "button",
          {
            type: "button",
            className: "quiet",
            onclick: async () => {
              menu.open = false;
              try {
                await download(job.links[link], accept);
              } catch (error) {
                failed(error);
              }
            },
          },
          label,
        ),
      ),
    ),
  );
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      menu.open = false;
      menu.firstElementChild.focus();
    }
  });
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) {
      menu.open = false;
    }
  });
  return menu;
}

function card(title, className, ...children) {
  return h("section", { className: `card ${className}` }, h("h2", {}, title), children);
}

function warningsOf(texts) {
  if (!texts.length) {
    return [];
  }
  const items = texts.map((text) => h("li", {}, sentence(text)));
  return [card(texts.length === 1 ? "Warning" : "Warnings", "warnings", h("ul", {}, items))];
}

async function showResults(element, job, signal) {
  const report = await getJson(job.links.report, { signal });
  const own = Object.fromEntries(report.structures.map((s) => [s.name, s.roi_colour]));
  const colours = structureColours(report.structures, own);
  const choice = new Shown(colours);
  const viewer = h("div", { className: "viewer" });
  const dvh = h("div", { className: "dvh" });
  const goals = goalsTable(report);
  element.replaceChildren(
    ...[
      h("section", { className: "card viewer-card", "aria-label": "Dose on CT" }, viewer),
      card("Dose-volume histograms", "dvh-card", dvh),
      goals ? card("Clinical goals", "goals-card", goals) : null,
      card("Figures", "figures-card", figureTables(report, colours)),
    ].filter(Boolean),
  );
  const views = showViewer(viewer, job.links.viewer, choice, signal).catch((error) => {
    if (signal.aborted) {
      return;
    }
    viewer.replaceChildren(problemBox(error));
  });
  await Promise.all([views, showDvh(dvh, report, choice, signal)]);
}

/** Correct the mapping and send the study again, as long as this page still has the study. */
function correction(job, signal, open) {
  const sent = sentFor(job);
  if (!sent) {
    return h("p", { className: "muted" }, "To correct this, send the study again and say which ROI is what.");
  }
  const place = h("div");
  const begin = h("button", { type: "button" }, "Correct …");
  begin.onclick = async () => {
    let model;
    try {
      model = await getJson(`/v1/models/${encodeURIComponent(job.model)}`, { signal });
    } catch (error) {
      place.replaceChildren(problemBox(error));
      return;
    }
    const used = Object.fromEntries(Object.entries(job.structures).map(([roi, name]) => [name, roi]));
    const rois = [...Object.keys(job.structures), ...job.unused_rois];
    const editor = mappingEditor(model.site, { rois, used, given: sent.parameters.structures ?? {} });
    const outcome = h("div");
    const send = h("button", { className: "primary" }, "Send again");
    const form = h(
      "form",
      {},
      editor.element,
      outcome,
      h(
        "p",
        { className: "buttons" },
        send,
        h("span", { className: "muted" }, "This job is cancelled if it still runs."),
      ),
    );
    form.onsubmit = async (event) => {
      event.preventDefault();
      send.disabled = true;
      outcome.replaceChildren(h("p", { role: "status" }, "Sending …"));
      try {
        const next = await submit(sent.files, { ...sent.parameters, structures: editor.read() }, () => {});
        await call(job.links.cancel, { method: "POST" });
        open(next.id);
      } catch (error) {
        send.disabled = false;
        outcome.replaceChildren(problemBox(error));
      }
    };
    place.replaceChildren(form);
    begin.hidden = true;
    form.querySelector("input").focus();
  };
  return h("div", { className: "correction" }, begin, place);
}

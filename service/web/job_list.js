// The list of jobs, newest first.

import { getJson } from "./api.js";
import { actionButtons } from "./actions.js";
import { h, keepFocus } from "./dom.js";
import { follow } from "./follow.js";
import { newStudy } from "./new_study.js";
import { problemBox } from "./problem.js";
import { progressOf, stateChip } from "./progress.js";
import { FINAL, moment, prescription, shortId } from "./words.js";

const BUSY_MS = 3_000;
const IDLE_MS = 10_000;
const LONGEST_MS = 60_000;
// Browsers open six connections to a server over HTTP/1.1, and some must stay free
const FOLLOWED = 3;
const PAGE = 50;

const FILTERS = [
  ["", "All states"],
  ["queued", "Waiting"],
  ["preparing", "Preparing"],
  ["predicting", "Predicting"],
  ["publishing", "Writing results"],
  ["succeeded", "Done"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"],
];

/** Show the list until the signal aborts; `open` shows a job. */
export function showJobs(main, signal, open) {
  const rows = h("tbody");
  const empty = h("p", { className: "muted empty", hidden: true });
  const trouble = h("div");
  const more = h("button", { type: "button", hidden: true }, "Older jobs");
  const filter = h(
    "select",
    { id: "state" },
    FILTERS.map(([value, text]) => h("option", { value }, text)),
  );
  const table = h(
    "table",
    { className: "jobs" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["Job", "Posted", "Model", "Prescription in Gy", "State", "Progress", ""].map((text) =>
          h("th", { scope: "col" }, text || h("span", { className: "unseen" }, "Actions")),
        ),
      ),
    ),
    rows,
  );
  main.replaceChildren(
    newStudy(signal, (job) => open(job.id)),
    h(
      "section",
      { className: "card", "aria-labelledby": "jobs-title" },
      h(
        "div",
        { className: "bar" },
        h("h1", { id: "jobs-title", tabIndex: -1 }, "Jobs"),
        h("div", {}, h("label", { for: "state", className: "unseen" }, "Show jobs of state"), filter),
      ),
      trouble,
      h("div", { className: "scroll" }, table),
      empty,
      more,
    ),
  );

  const lines = new Map();
  const followed = new Set();
  let pages = 1;
  let wait = IDLE_MS;
  let timer = 0;
  let turn = 0;

  const put = (job) => {
    const line = jobRow(job, { done: refresh, failed: (error) => trouble.replaceChildren(problemBox(error)) });
    const known = lines.get(job.id);
    if (known) {
      keepFocus(known, () => known.replaceChildren(...line.children));
      return known;
    }
    line.addEventListener("click", (event) => {
      if (!event.target.closest("a, button") && !getSelection().toString()) {
        open(job.id);
      }
    });
    lines.set(job.id, line);
    return line;
  };

  const followSome = (jobs) => {
    // The eldest are in work, or the next to be
    for (const job of jobs.filter((each) => !FINAL.has(each.state)).reverse()) {
      if (followed.size >= FOLLOWED || document.hidden) {
        return;
      }
      if (!followed.has(job.id)) {
        followed.add(job.id);
        follow(job, signal, (next) => {
          if (next && lines.get(next.id)?.isConnected) {
            put(next);
          }
        }).finally(() => {
          followed.delete(job.id);
          refresh();
        });
      }
    }
  };

  async function refresh() {
    clearTimeout(timer);
    if (signal.aborted) {
      return;
    }
    const mine = (turn += 1);
    try {
      const jobs = [];
      let cursor = null;
      for (let page = 0; page < pages; page += 1) {
        const query = new URLSearchParams({ limit: PAGE });
        if (filter.value) {
          query.set("state", filter.value);
        }
        if (cursor) {
          query.set("cursor", cursor);
        }
        const answer = await getJson(`/v1/jobs?${query}`, { signal });
        jobs.push(...answer.jobs);
        cursor = answer.next_cursor;
        if (!cursor) {
          break;
        }
      }
      if (mine !== turn) {
        return;
      }
      for (const [id, line] of lines) {
        if (!jobs.some((job) => job.id === id)) {
          line.remove();
          lines.delete(id);
        }
      }
      const wanted = jobs.map(put);
      wanted.forEach((line, index) => {
        if (rows.children[index] !== line) {
          rows.insertBefore(line, rows.children[index] ?? null);
        }
      });
      trouble.replaceChildren();
      table.hidden = !jobs.length;
      empty.hidden = Boolean(jobs.length);
      empty.textContent = filter.value ? "No jobs of this state." : "No jobs yet. Send a study to begin.";
      more.hidden = !cursor;
      followSome(jobs);
      wait = jobs.some((job) => !FINAL.has(job.state)) ? BUSY_MS : IDLE_MS;
    } catch (error) {
      if (signal.aborted || error.status === 401) {
        return;
      }
      wait = Math.min(2 * wait, LONGEST_MS);
      trouble.replaceChildren(problemBox(error));
    }
    if (!document.hidden && !signal.aborted) {
      timer = setTimeout(refresh, wait);
    }
  }

  filter.addEventListener("change", () => {
    pages = 1;
    refresh();
  });
  more.addEventListener("click", () => {
    pages += 1;
    refresh();
  });
  document.addEventListener("visibilitychange", () => document.hidden || refresh(), { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  return refresh();
}

function jobRow(job, { done, failed }) {
  const link = h("a", { href: `#/jobs/${job.id}`, title: job.id }, shortId(job));
  return h(
    "tr",
    { "data-job": job.id },
    h("td", {}, link, job.duplicate_of ? h("small", {}, `again ${job.duplicate_of.slice(0, 8)}`) : null),
    h("td", {}, moment(job.created_at)),
    h("td", {}, job.model, job.simulated_training_data ? h("small", {}, "simulated data") : null),
    h("td", {}, prescription(job.parameters.prescription_gy)),
    h("td", {}, stateChip(job)),
    h("td", {}, progressOf(job), job.warnings.length && job.state === "succeeded" ? warningsNote(job) : null),
    h("td", { className: "actions" }, actionButtons(job, { done, failed })),
  );
}

function warningsNote(job) {
  const count = job.warnings.length;
  return h("span", { className: "muted" }, count === 1 ? "1 warning" : `${count} warnings`);
}

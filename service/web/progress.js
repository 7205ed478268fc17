// How far a job is.

import { h } from "./dom.js";
import { FINAL, duration, stateWord } from "./words.js";

/** A mark with the job's state. */
export function stateChip(job) {
  return h("span", { className: `chip ${FINAL.has(job.state) ? job.state : "running"}` }, stateWord(job));
}

/** Bar, slices and time left of a job that runs; why it failed, of one that did. */
export function progressOf(job) {
  if (job.error) {
    return h(
      "div",
      { className: "progress" },
      h("span", { className: "error-text" }, job.error.detail),
      h("code", {}, job.error.code),
    );
  }
  if (FINAL.has(job.state)) {
    const seconds = (new Date(job.finished_at) - new Date(job.created_at)) / 1000;
    const took = job.state === "succeeded" ? `in ${duration(seconds)}` : "";
    return h("div", { className: "progress" }, h("span", { className: "muted" }, took));
  }
  const { slices_done: done, slices_total: total, eta_s: left, fraction } = job.progress;
  const parts = [`${Math.round(100 * fraction)} %`];
  if (job.state === "predicting" && done) {
    parts.push(`${done} of ${total} slices`);
  }
  if (left !== null) {
    parts.push(`${duration(left)} left`);
  }
  return h(
    "div",
    { className: "progress" },
    h("progress", { max: 1, value: fraction, "aria-label": stateWord(job) }),
    h("span", { className: "muted" }, parts.join(" · ")),
  );
}

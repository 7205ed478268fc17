"use strict";

const REFRESH_MS = 2000;
const FINAL = new Set(["succeeded", "failed", "cancelled"]);
const RESULTS = [
  ["Report", "report", "text/html"],
  ["Dose", "dose", "application/dicom"],
  ["All files", "archive", "application/zip"],
];

const message = document.getElementById("message");
const table = document.querySelector("table");
const rows = document.getElementById("jobs");
const keyForm = document.getElementById("key-form");

function call(path, accept = "application/json", method = "GET") {
  const key = sessionStorage.getItem("key");
  const headers = { Accept: accept, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  return fetch(path, { method, headers });
}

function element(tag, text = "", properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, properties);
}

// A link could not carry the key
async function fetchResult(path, accept) {
  const answer = await call(path, accept);
  if (!answer.ok) {
    message.textContent = (await answer.json()).detail;
    return;
  }
  const url = URL.createObjectURL(await answer.blob());
  const name = /filename="(.+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "result";
  if (accept === "text/html") {
    window.open(url, "_blank");
  } else {
    element("a", "", { href: url, download: name }).click();
  }
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

function progressCell(job) {
  const cell = element("td");
  if (job.error) {
    cell.append(element("span", job.error.detail, { className: "failed" }));
  } else if (!FINAL.has(job.state)) {
    const { slices_done: done, slices_total: total, eta_s: eta } = job.progress;
    cell.append(element("progress", "", { max: 1, value: job.progress.fraction, title: job.progress.stage }));
    const left = eta === null ? "" : `, ${Math.ceil(eta)} s left`;
    cell.append(element("span", `${done} of ${total} slices${left}`, { className: "detail" }));
  }
  if (job.warnings.length) {
    cell.append(element("span", job.warnings.join(". "), { className: "detail" }));
  }
  return cell;
}

function actionCell(job) {
  const cell = element("td");
  if (job.state === "succeeded") {
    for (const [label, name, accept] of RESULTS) {
      cell.append(element("button", label, { onclick: () => fetchResult(job.links[name], accept) }));
    }
  } else if (!FINAL.has(job.state)) {
    const cancel = () => call(job.links.cancel, undefined, "POST").then(refresh);
    cell.append(element("button", "Cancel", { onclick: cancel, disabled: job.cancel_requested }));
  }
  return cell;
}

function row(job) {
  const line = element("tr");
  line.append(
    element("td", job.id.slice(0, 8), { title: job.id }),
    element("td", new Date(job.created_at).toLocaleString()),
    element("td", job.model),
    element("td", job.cancel_requested && !FINAL.has(job.state) ? "stopping" : job.state),
    progressCell(job),
    actionCell(job),
  );
  return line;
}

async function refresh() {
  try {
    const answer = await call("/v1/jobs");
    const body = await answer.json();
    keyForm.hidden = answer.status !== 401;
    table.hidden = !answer.ok || !body.jobs.length;
    if (answer.ok) {
      rows.replaceChildren(...body.jobs.map(row));
      message.textContent = body.jobs.length ? "" : "No jobs yet.";
    } else {
      message.textContent = body.detail;
    }
  } catch {
    message.textContent = "The service does not answer.";
  }
}

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", document.getElementById("key").value);
  refresh();
});

refresh();
setInterval(() => document.hidden || refresh(), REFRESH_MS);

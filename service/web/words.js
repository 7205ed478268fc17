// How things are said.

const STATES = {
  queued: "Waiting",
  preparing: "Preparing",
  predicting: "Predicting",
  publishing: "Writing results",
  succeeded: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};

export const FINAL = new Set(["succeeded", "failed", "cancelled"]);

export const SAMPLERS = {
  "coarse-ddim": "Refined coarse dose",
  ddim: "From noise (DDIM)",
  "dpm-solver": "From noise (DPM-Solver++)",
  ancestral: "Full diffusion, slow",
  coarse: "Coarse dose only",
  regression: "Regression",
};

export function stateWord(job) {
  return job.cancel_requested && !FINAL.has(job.state) ? "Stopping" : STATES[job.state];
}

export function shortId(job) {
  return job.id.slice(0, 8);
}

export function gy(value, decimals = 1) {
  return `${value.toFixed(decimals)} Gy`;
}

// Of the report's figures, by the unit that ends their names
const DECIMALS = { gy: 2, percent: 1, cc: 2, index: 3 };

/** A figure of the report with the digits that it has in the printed one; a dash for what is undefined. */
export function figure(value, name) {
  const decimals = DECIMALS[name.split("_").at(-1)];
  return value === null || value === undefined ? "–" : value.toFixed(decimals).replace("-", "−");
}

export function prescription(doses) {
  return Object.entries(doses)
    .sort(([, a], [, b]) => b - a)
    .map(([, dose]) => String(dose))
    .join(" / ");
}

export function bytes(count) {
  return count < 1e6 ? `${Math.max(1, Math.round(count / 1e3))} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

export function duration(seconds) {
  if (seconds < 90) {
    return `${Math.max(1, Math.ceil(seconds))} s`;
  }
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function moment(text) {
  const date = new Date(text);
  const today = date.toDateString() === new Date().toDateString();
  const options = today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(navigator.language, options).format(date);
}

/** A sentence of the service with a capital letter. */
export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

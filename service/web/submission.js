// Sending a study, and remembering what was sent, so that it can be sent again with corrections.

import { postForm } from "./api.js";

const sent = new Map();

function token() {
  // randomUUID exists on secure origins only
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Post files and parameters; returns the job or throws a Problem.
 * File names are replaced: they often hold the patient's name, and the service does not need them.
 */
export async function submit(files, parameters, progress) {
  const form = new FormData();
  form.append("parameters", new Blob([JSON.stringify(parameters)], { type: "application/json" }));
  files.forEach((file, index) => form.append("files", file, `file-${index + 1}`));
  const job = await postForm("/v1/jobs", form, { "Idempotency-Key": token() }, progress);
  sent.set(job.id, { files, parameters });
  return job;
}

/** What was sent for a job by this page since it was loaded, or undefined. */
export function sentFor(job) {
  return sent.get(job.id);
}

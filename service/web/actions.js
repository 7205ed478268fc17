// What can be done with a job.

import { call } from "./api.js";
import { confirmed } from "./confirm.js";
import { h } from "./dom.js";
import { FINAL, shortId } from "./words.js";

/** Buttons for what the job's state allows; `done` is called afterwards, `failed` with a Problem. */
export function actionButtons(job, { done, failed, deleted = done }) {
  const act = (label, method, path, after) => {
    const button = h("button", { type: "button", "aria-label": `${label} job ${shortId(job)}` }, label);
    button.onclick = async () => {
      if (
        method === "DELETE" &&
        !(await confirmed(`Delete job ${shortId(job)} with its study and its results?`, "Delete"))
      ) {
        return;
      }
      button.disabled = true;
      try {
        await call(path, { method });
        after();
      } catch (error) {
        button.disabled = false;
        failed(error);
      }
    };
    return button;
  };
  const buttons = [];
  if (!FINAL.has(job.state)) {
    const cancel = act("Cancel", "POST", job.links.cancel, done);
    cancel.disabled = job.cancel_requested;
    buttons.push(cancel);
  }
  if (job.state === "failed" && job.links.requeue) {
    buttons.push(act("Try again", "POST", job.links.requeue, done));
  }
  buttons.push(act("Delete", "DELETE", job.links.self, deleted));
  return buttons;
}

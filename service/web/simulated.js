// What must be known of a model that has learnt from simulated patients only.

import { h } from "./dom.js";

/** A note that says so. */
export function simulatedNote() {
  return h(
    "p",
    { className: "note", role: "note" },
    h("strong", {}, "Simulated data. "),
    "The model was trained on simulated patients and has never seen a real one.",
  );
}

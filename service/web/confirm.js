// A question before what cannot be undone.

import { h } from "./dom.js";

/** Ask; resolves to whether the answer was yes. Escape means no. */
export function confirmed(question, yes) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      {
        "aria-labelledby": "question",
        onclose: () => {
          dialog.remove();
          resolve(dialog.returnValue === "yes");
        },
      },
      h("p", { id: "question" }, question),
      h(
        "div",
        { className: "buttons" },
        h("button", { type: "button", className: "danger", onclick: () => dialog.close("yes") }, yes),
        h("button", { type: "button", autofocus: true, onclick: () => dialog.close("no") }, "Keep"),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

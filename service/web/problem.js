// An error of the service, as it says itself: its text, its code, and what was found.

import { h } from "./dom.js";
import { sentence } from "./words.js";

/** Show a problem; what is no problem is an error of ours, and goes on to the console. */
export function problemBox(error) {
  if (!error.code) {
    throw error;
  }
  const parameters = Array.isArray(error.details?.parameters) ? error.details.parameters : [];
  const wait = error.retryAfterS ? ` Try again in ${error.retryAfterS} s.` : "";
  return h(
    "div",
    { className: "problem", role: "alert" },
    h("p", {}, h("strong", {}, sentence(error.message)), wait),
    parameters.length
      ? h(
          "ul",
          {},
          parameters.map((p) => h("li", {}, `${p.parameter}: ${p.reason}`)),
        )
      : null,
    h("p", { className: "code" }, "Code ", h("code", {}, error.code)),
  );
}

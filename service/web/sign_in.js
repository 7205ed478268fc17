// The key: asked for when the service wants one, kept until the tab is closed.

import { getJson, key, setKey } from "./api.js";
import { h } from "./dom.js";
import { problemBox } from "./problem.js";

/** Set up the sign-in form and the button that signs out; `signedIn` is called when a key was accepted. */
export function setUpSignIn(main, signedIn) {
  const input = h("input", { type: "password", id: "key", autocomplete: "off", required: true });
  const trouble = h("div");
  const form = h(
    "form",
    { className: "card sign-in", "aria-labelledby": "sign-in-title" },
    h("h1", { id: "sign-in-title" }, "Sign in"),
    h("p", { className: "muted" }, "This service needs an API key. It is kept until you sign out or close this tab."),
    h("label", { for: "key" }, "API key"),
    input,
    trouble,
    h("button", { className: "primary" }, "Sign in"),
  );
  const signOut = document.getElementById("sign-out");

  const ask = () => {
    setKey("");
    signOut.hidden = true;
    if (!form.isConnected) {
      main.replaceChildren(form);
      input.focus();
    }
  };
  document.addEventListener("key-needed", ask);
  signOut.addEventListener("click", () => {
    trouble.replaceChildren();
    document.dispatchEvent(new Event("key-needed"));
  });
  signOut.hidden = !key();

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    setKey(input.value.trim());
    try {
      await getJson("/v1/jobs?limit=1");
    } catch (error) {
      trouble.replaceChildren(problemBox(error));
      input.select();
      return;
    }
    input.value = "";
    trouble.replaceChildren();
    signOut.hidden = false;
    form.remove();
    signedIn();
  });
}

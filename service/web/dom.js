// Elements without markup: text stays text, whatever it holds.

/** Make an element: properties are set, `on…` are listeners, `aria-…`, `data-…`, `role` and `for` are attributes. */
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) {
      continue;
    }
    if (name.startsWith("on")) {
      made.addEventListener(name.slice(2), value);
    } else if (/^(aria-|data-|role$|for$|colspan$|scope$|list$)/.test(name)) {
      made.setAttribute(name, value);
    } else {
      made[name] = value;
    }
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** A small coloured square. */
export function swatch(colour) {
  const square = h("i", { className: "swatch", "aria-hidden": "true" });
  square.style.setProperty("background-color", colour);
  return square;
}

/** Make an element's content anew; whoever has reached one of its controls by keyboard stays there. */
export function keepFocus(element, change) {
  const controls = () => [...element.querySelectorAll("a, button, summary")];
  const at = controls().indexOf(document.activeElement);
  change();
  if (at >= 0) {
    (controls()[at] ?? controls()[0])?.focus();
  }
}

/** Say something to those who cannot see the page change. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

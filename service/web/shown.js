// What viewer and DVH share: which structures are shown, in which colours, and the unit of doses.

export class Shown {
  #names;
  #listeners = new Set();

  constructor(colours) {
    this.colours = colours;
    this.unit = "Gy";
    this.#names = new Set(Object.keys(colours));
  }

  isShown(name) {
    return this.#names.has(name);
  }

  show(name, on) {
    this.#names[on ? "add" : "delete"](name);
    this.#tell();
  }

  showOnly(names) {
    this.#names = new Set(names);
    this.#tell();
  }

  setUnit(unit) {
    this.unit = unit;
    this.#tell();
  }

  /** Call a function after every change until the signal aborts. */
  subscribe(listener, signal) {
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener));
  }

  #tell() {
    this.#listeners.forEach((listener) => listener());
  }
}

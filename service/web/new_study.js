// A new study: drop it, look at the parameters, send it.

import { getJson } from "./api.js";
import { h } from "./dom.js";
import { chosenFiles, droppedFiles } from "./dropped_files.js";
import { mappingEditor } from "./mapping.js";
import { parametersForm } from "./parameters.js";
import { problemBox } from "./problem.js";
import { submit } from "./submission.js";
import { bytes } from "./words.js";

/** The card in which a study is sent; `accepted` gets the job. */
export function newStudy(signal, accepted) {
  const card = h("section", { className: "card new-study", "aria-labelledby": "new-study-title" });
  const filesInput = h("input", { type: "file", multiple: true, id: "files", hidden: true });
  const folderInput = h("input", { type: "file", id: "folder", hidden: true });
  folderInput.webkitdirectory = true;
  const drop = h(
    "div",
    { className: "drop" },
    h("h2", { id: "new-study-title" }, "New study"),
    h(
      "p",
      {},
      h(
        "span",
        { className: "drop-hint" },
        "Drop CT and RTSTRUCT here, better with the RTPLAN: a zip, a folder or files. ",
      ),
      h("span", { className: "muted" }, "Or choose "),
      h("button", { type: "button", onclick: () => filesInput.click() }, "Zip or files …"),
      " ",
      h("button", { type: "button", onclick: () => folderInput.click() }, "Folder …"),
    ),
    filesInput,
    folderInput,
  );
  const form = h("form", { hidden: true, noValidate: true });
  card.append(drop, form);

  const show = async (files) => {
    if (!files.length) {
      return;
    }
    try {
      fill(form, files, await getJson("/v1/models", { signal }), accepted);
    } catch (error) {
      form.replaceChildren(problemBox(error));
    }
    form.hidden = false;
    form.querySelector("button.primary")?.focus();
  };
  for (const input of [filesInput, folderInput]) {
    input.addEventListener("change", async () => {
      await show(chosenFiles(input));
      input.value = "";
    });
  }

  // The whole window takes a drop: a file that misses the frame must not replace the page
  let depth = 0;
  const over = (change) => {
    depth += change;
    card.classList.toggle("over", depth > 0);
  };
  addEventListener("dragenter", () => over(1), { signal });
  addEventListener("dragleave", () => over(-1), { signal });
  addEventListener("dragover", (event) => event.preventDefault(), { signal });
  addEventListener(
    "drop",
    async (event) => {
      event.preventDefault();
      over(-depth);
      await show(await droppedFiles(event.dataTransfer));
    },
    { signal },
  );
  return card;
}

function fill(form, files, models, accepted) {
  const parameters = parametersForm(models);
  const outcome = h("div");
  const corrections = h("div");
  const size = files.reduce((sum, file) => sum + file.size, 0);
  const name = files.length === 1 ? files[0].name : `${files.length} files`;
  const send = h("button", { className: "primary" }, "Send");
  const discard = h("button", { type: "button" }, "Discard");
  let structures = () => ({});

  discard.onclick = () => {
    form.hidden = true;
    form.replaceChildren();
  };
  form.onsubmit = async (event) => {
    event.preventDefault();
    const given = parameters.read();
    if (!given) {
      return;
    }
    const mapped = structures();
    const progress = h("progress", { max: size, value: 0, "aria-label": "Sending" });
    const text = h("span", {}, "Sending …");
    outcome.replaceChildren(h("p", { className: "sending", role: "status" }, progress, text));
    send.disabled = discard.disabled = true;
    try {
      const job = await submit(
        files,
        Object.keys(mapped).length ? { ...given, structures: mapped } : given,
        (done, all) => {
          progress.max = all;
          progress.value = done;
          text.textContent = done < all ? `${bytes(done)} of ${bytes(all)}` : "The service examines the study …";
          if (done >= all) {
            progress.removeAttribute("value");
          }
        },
      );
      discard.onclick();
      accepted(job);
    } catch (error) {
      outcome.replaceChildren(problemBox(error));
      const editor = correctionsFor(error, models, given.model, mapped);
      corrections.replaceChildren(...(editor ? [editor.element] : []));
      structures = editor?.read ?? (() => ({}));
      send.textContent = "Send again";
    } finally {
      send.disabled = discard.disabled = false;
    }
  };
  form.replaceChildren(
    h("p", { className: "chosen" }, h("strong", {}, name), ` · ${bytes(size)}`),
    parameters.fields,
    outcome,
    corrections,
    h("p", { className: "buttons" }, send, discard),
  );
}

const MAPPING_CODES = new Set(["site-unknown", "no-target", "structure-ambiguous", "override-unknown"]);

/** Fields to say which ROI is what, if that is what the service could not tell. */
function correctionsFor(error, models, modelName, given) {
  if (!MAPPING_CODES.has(error.code)) {
    return null;
  }
  const model = models.find((m) => m.name === modelName) ?? models[0];
  const details = error.details;
  const rois = [details.rois, details.candidates, details.set_aside, details.found].flat().filter(Boolean);
  return mappingEditor(model.site, { rois: [...new Set(rois)], used: {}, given });
}

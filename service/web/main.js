// Which part of the page is shown: `#/` the list, `#/jobs/ID` one job.

import { setUpSignIn } from "./sign_in.js";
import { showJob } from "./job_view.js";
import { showJobs } from "./job_list.js";

const main = document.getElementById("main");
let shown = new AbortController();

function openJob(id) {
  location.hash = `#/jobs/${id}`;
}

async function show() {
  shown.abort();
  shown = new AbortController();
  const id = /^#\/jobs\/([0-9a-f]+)$/.exec(location.hash)?.[1];
  document.title = id ? `Job ${id.slice(0, 8)} – DiffDP` : "DiffDP";
  if (id) {
    await showJob(main, shown.signal, id, openJob);
  } else {
    await showJobs(main, shown.signal, openJob);
  }
}

const theme = document.getElementById("theme");
theme.value = localStorage.getItem("theme") ?? "system";
theme.addEventListener("change", () => {
  localStorage.setItem("theme", theme.value);
  document.dispatchEvent(new Event("theme-chosen"));
});

// The fragment says what is shown, so this link cannot use it
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

// Whatever is shown stops asking while a key is missing
document.addEventListener("key-needed", () => shown.abort());
setUpSignIn(main, show);
addEventListener("hashchange", () => {
  show();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
show();

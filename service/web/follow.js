// A job's changes as they happen: server-sent events, and where there are none, questions at growing intervals.

import { call, getJson } from "./api.js";
import { FINAL } from "./words.js";

const AGAIN_MS = 1_000;
const LONGEST_MS = 30_000;

/** Read a stream of server-sent events; an EventSource could not carry the key. */
async function* events(path, lastEventId, signal) {
  const headers = lastEventId ? { "Last-Event-ID": lastEventId } : {};
  const answer = await call(path, { accept: "text/event-stream", headers, signal });
  if (!answer.body) {
    return; // 204: nothing more will happen
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const blocks = (text + part.value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      yield Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
    }
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}

/**
 * Tell every change of a job until its end, its deletion (null) or the signal's abortion.
 * Lost connections are taken up again; what went wrong is told to `troubled`, and null when all is well again.
 */
export async function follow(job, signal, changed, troubled = () => {}) {
  let lastEventId = null;
  let streams = true;
  let wait = AGAIN_MS;
  const tell = (next) => {
    wait = AGAIN_MS;
    troubled(null);
    job = next;
    changed(job);
  };
  while (!signal.aborted && !FINAL.has(job.state)) {
    try {
      if (streams) {
        for await (const { event, id, data } of events(job.links.events, lastEventId, signal)) {
          if (event === "purged") {
            changed(null);
            return;
          }
          if (event === "job") {
            lastEventId = id;
            tell(JSON.parse(data));
          }
        }
      } else {
        const next = await getJson(job.links.self, { signal });
        const longer = next.updated_at === job.updated_at ? Math.min(1.5 * wait, LONGEST_MS) : AGAIN_MS;
        tell(next);
        wait = longer;
      }
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      if (error.status === 410 || error.status === 404) {
        if (!streams) {
          changed(null);
          return;
        }
        streams = false;
        continue;
      }
      streams = streams && ![405, 406, 501].includes(error.status);
      wait = Math.min(2 * wait, LONGEST_MS);
      troubled(error);
    }
    if (!FINAL.has(job.state)) {
      await pause(wait, signal);
    }
  }
}

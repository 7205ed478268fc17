// Calls to the service. The key goes into a header and nowhere else: addresses end up in logs and histories.

const KEY = "diffdp-key";

/** An answer that is an error: RFC 9457 problem details. */
export class Problem extends Error {
  constructor(status, body, retryAfterS) {
    super(body.detail ?? `the service answered ${status}`);
    this.status = status;
    this.code = body.code ?? `http-${status}`;
    this.details = body.details ?? {};
    this.retryAfterS = retryAfterS;
  }
}

export const NO_ANSWER = "no-answer";

/** No answer at all, as a problem. */
export function noAnswer() {
  return new Problem(0, { detail: "The service does not answer.", code: NO_ANSWER });
}

export function key() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setKey(value) {
  if (value) {
    sessionStorage.setItem(KEY, value);
  } else {
    sessionStorage.removeItem(KEY);
  }
}

export function authorisation() {
  return key() ? { Authorization: `Bearer ${key()}` } : {};
}

/** Make a Problem of what an unsuccessful answer says; asks for a key where one is needed. */
export function problemOf(status, text, retryAfter) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // Not ours: a proxy's page, for example
  }
  if (status === 401) {
    document.dispatchEvent(new Event("key-needed"));
  }
  return new Problem(status, body, Number(retryAfter) || null);
}

/** Fetch; throws a Problem for anything but success. */
export async function call(path, { accept = "application/json", method = "GET", headers = {}, signal } = {}) {
  let answer;
  try {
    answer = await fetch(path, { method, signal, headers: { Accept: accept, ...authorisation(), ...headers } });
  } catch (error) {
    throw error.name === "AbortError" ? error : noAnswer();
  }
  if (!answer.ok) {
    throw problemOf(answer.status, await answer.text(), answer.headers.get("Retry-After"));
  }
  return answer;
}

export async function getJson(path, options) {
  return (await call(path, options)).json();
}

/** Fetch a result and let the browser save it; a link could not carry the key. */
export async function download(path, accept) {
  const answer = await call(path, { accept });
  const name = /filename="(.+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "result";
  const url = URL.createObjectURL(await answer.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Post a form with a progress of what was sent, which fetch does not tell. */
export function postForm(path, form, headers, sent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries({ Accept: "application/json", ...authorisation(), ...headers })) {
      request.setRequestHeader(name, value);
    }
    request.upload.addEventListener("progress", (event) => sent(event.loaded, event.total));
    request.addEventListener("error", () => reject(noAnswer()));
    request.addEventListener("load", () => {
      if (request.status < 300) {
        resolve(JSON.parse(request.responseText));
      } else {
        reject(problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After")));
      }
    });
    request.send(form);
  });
}

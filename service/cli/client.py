"""A client of the HTTP interface, as any planning system could be one."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from rich.progress import Progress, TaskID

from model.errors import Cancelled, DiffDPError, StudyError
from service.cli.options import WRITTEN, study_files
from service.intake.archive import is_archive, pack
from service.jobs.job import Parameters
from service.storage.layout import DOSE, PLAN, REPORT_HTML, REPORT_JSON, REPORT_PDF

BLOCK_BYTES = 2**20
POLL_S = 0.5
UNANSWERED_S = 60.0
"""Time without an answer after which the server is given up: the job lives on while a server is restarted."""
SILENT_S = 60.0
"""Time without a sign of life after which a stream of events is taken to be dead; the server sends one in 15 s."""
FINAL = {"succeeded", "failed", "cancelled"}
REFUSED = {400, 413, 415, 422}


class ServerError(Exception):
    """The server cannot serve now, or not this caller."""


class JobFailed(DiffDPError):
    """The job ended without results."""

    code = "job-failed"


class Client:
    """Posts studies to a server and fetches results."""

    def __init__(self, server: str, api_key: str) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=server, headers=headers, timeout=httpx.Timeout(30.0, read=300.0))

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    def is_ready(self) -> bool:
        """Whether the server can work."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def predict(self, study: Sequence[Path], parameters: Parameters, out: Path, bar: Progress) -> dict[str, Any]:
        """Post a study, follow its job to the end and write the results; Ctrl-C cancels the job.

        Returns
        -------
        The job.

        Raises
        ------
        StudyError
            If it is refused.
        JobFailed
            If the job fails.
        ServerError
            If the server cannot serve.
        """
        task = bar.add_task("upload", total=1.0)
        job = self._post(study, parameters, bar, task)
        try:
            job = self._follow(job, bar, task)
        except KeyboardInterrupt:
            self._http.post(job["links"]["cancel"])
            raise Cancelled("the job was cancelled") from None
        if job["state"] != "succeeded":
            error = job["error"] or {"code": JobFailed.code, "detail": f"the job is {job['state']}"}
            raise JobFailed(error["detail"], code=error["code"])
        self._fetch(job, out)
        return job

    def _post(self, study: Sequence[Path], parameters: Parameters, bar: Progress, task: TaskID) -> dict[str, Any]:
        files = study_files(study)
        given = parameters.model_dump(mode="json", exclude_defaults=True)
        query = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in given.items()}
        with TemporaryDirectory() as folder:
            archive = files[0]
            if len(files) > 1 or not is_archive(archive):
                archive = Path(folder) / "study.zip"
                # Numbers instead of names, which may be a patient's
                pack({f"{number:05d}.dcm": path for number, path in enumerate(files)}, archive)
            headers = {"Content-Type": "application/zip", "Content-Length": str(archive.stat().st_size)}
            answer = self._http.post("/v1/jobs", params=query, content=_blocks(archive, bar, task), headers=headers)
        return _json(answer)

    def _follow(self, job: dict[str, Any], bar: Progress, task: TaskID) -> dict[str, Any]:
        """Show a job by its events until its end; where there are none, by asking again and again."""
        last_event_id, heard_at = "0", time.monotonic()
        while job["state"] not in FINAL:
            try:
                for event_id, changed in self._events(job, last_event_id):
                    job, last_event_id, heard_at = changed, event_id, time.monotonic()
                    bar.update(task, description=job["state"], completed=job["progress"]["fraction"])
                if job["state"] not in FINAL:
                    # The stream has ended before the job: the server is restarted, or sends no events
                    time.sleep(POLL_S)
                    job = _json(self._http.get(job["links"]["self"]))
                    heard_at = time.monotonic()
            except httpx.TransportError:
                if time.monotonic() - heard_at > UNANSWERED_S:
                    raise
                time.sleep(POLL_S)
        bar.update(task, description=job["state"], completed=job["progress"]["fraction"])
        return job

    def _events(self, job: dict[str, Any], last_event_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the identifiers of events and the job after each, until the stream ends."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last_event_id}
        timeout = httpx.Timeout(30.0, read=SILENT_S)
        with self._http.stream("GET", job["links"]["events"], headers=headers, timeout=timeout) as answer:
            if not answer.is_success:
                return
            event: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(":")
                if name:
                    event[name] = value.removeprefix(" ")
                elif line == "":
                    if event.get("event") == "job":
                        yield event["id"], json.loads(event["data"])
                    event = {}

    def _fetch(self, job: dict[str, Any], out: Path) -> None:
        links = job["links"]
        accepts = {REPORT_HTML: "text/html", REPORT_JSON: "application/json", REPORT_PDF: "application/pdf"}
        sources = {DOSE: links["dose"], PLAN: links["plan"]} | dict.fromkeys(accepts, links["report"])
        out.mkdir(parents=True, exist_ok=True)
        for name in WRITTEN:
            with self._http.stream("GET", sources[name], headers={"Accept": accepts.get(name, "*/*")}) as answer:
                if not answer.is_success:
                    raise ServerError(f"{name} cannot be fetched: {answer.status_code}")
                with (out / name).open("wb") as file:
                    for block in answer.iter_bytes():
                        file.write(block)


def _blocks(path: Path, bar: Progress, task: TaskID) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
            bar.update(task, completed=file.tell() / size)


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if answer.is_success:
        return dict(body)
    detail = body.get("detail", f"the server answered {answer.status_code}")
    if answer.status_code in REFUSED:
        raise StudyError(detail, code=body.get("code"), details=body.get("details"))
    raise ServerError(detail)

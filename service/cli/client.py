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
from service.storage.layout import DOSE, PLAN, REPORT_HTML, REPORT_JSON

BLOCK_BYTES = 2**20
POLL_S = 0.5
UNANSWERED_POLLS = 60
"""Polls in a row that may fail before the server is given up: the job lives on while a server is restarted."""
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
        unanswered = 0
        while job["state"] not in {"succeeded", "failed", "cancelled"}:
            bar.update(task, description=job["state"], completed=job["progress"]["fraction"])
            time.sleep(POLL_S)
            try:
                job = _json(self._http.get(job["links"]["self"]))
                unanswered = 0
            except httpx.TransportError:
                unanswered += 1
                if unanswered == UNANSWERED_POLLS:
                    raise
        bar.update(task, description=job["state"], completed=job["progress"]["fraction"])
        return job

    def _fetch(self, job: dict[str, Any], out: Path) -> None:
        links = job["links"]
        accepts = {REPORT_HTML: "text/html", REPORT_JSON: "application/json"}
        sources = {DOSE: links["dose"], PLAN: links["plan"], REPORT_JSON: links["report"], REPORT_HTML: links["report"]}
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

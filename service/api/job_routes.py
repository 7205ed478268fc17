"""Jobs: look, list, follow, cancel, delete, and fetch what came out."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, StreamingResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Receive, Scope, Send

from model.errors import DiffDPError
from service.api.context import JobId, Parts, PartsOf
from service.api.gate import CallerOf, is_still_admitted
from service.api.schemas import JobPage, JobSchema
from service.api.submission import check_room
from service.errors import NotAcceptable, ResultAbsent, ResultsNotReady, TooManyRequests
from service.jobs.job import Job
from service.jobs.states import Stage, State
from service.storage.layout import ARCHIVE, DOSE, PLAN, REPORT_CSV, REPORT_HTML, REPORT_JSON, REPORT_PDF, job_key

log = logging.getLogger(__name__)

MOST_STREAMS = 500
"""Open streams of events of one caller in one process."""
EVENT_POLL_S = 0.5
RECONNECT_MS = 2000
"""Time after which a listener that lost its connection is asked to come back."""
KEEP_ALIVE_S = 15.0
"""Time between two signs of life to a listener when nothing changes; proxies close silent connections."""

DICOM = "application/dicom"
REPORTS = {
    "application/json": REPORT_JSON,
    "text/html": REPORT_HTML,
    "application/pdf": REPORT_PDF,
    "text/csv": REPORT_CSV,
}
"""Forms of the report, the preferred one first."""

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("", summary="List jobs")
def list_jobs(
    parts: PartsOf,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> JobPage:
    """Return a page of jobs, newest first."""
    jobs, following = parts.jobs.page(state=state, limit=limit, cursor=cursor)
    return JobPage(jobs=tuple(JobSchema.of(job) for job in jobs), next_cursor=following)


@router.get("/{job_id}", summary="Look at a job", response_model=JobSchema)
async def get_job(job_id: JobId, parts: PartsOf) -> Response:
    """Return a job; ``Retry-After`` says when to ask again while it runs."""
    job = await parts.look(job_id)
    headers = {} if job.state.is_final else {"Retry-After": str(_retry_after_s(job))}
    # Asked for more often than anything else: written once, rather than checked against its schema before
    return Response(JobSchema.of(job).model_dump_json(), media_type="application/json", headers=headers)


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={204: {"description": "The job has ended and `Last-Event-ID` was its last event."}},
)
async def follow_job(
    job_id: JobId,
    request: Request,
    parts: PartsOf,
    caller: CallerOf,
    last_event_id: Annotated[str | None, Header(max_length=9)] = None,
) -> Response:
    """Send the job as a server-sent event after each of its changes, until its end.

    Events of a job are numbered from 1 and kept as long as the job. With ``Last-Event-ID`` all later ones are sent,
    with 0 thus all; without it, the job as it is now comes first. An event holds the whole job as it was then.
    """
    seen = int(last_event_id) if last_event_id is not None and last_event_id.isdecimal() else None
    first = await run_in_threadpool(parts.jobs.events, job_id, seen)
    if not first and (await run_in_threadpool(parts.jobs.get, job_id)).state.is_final:
        # Tells an EventSource not to connect again
        return Response(status_code=HTTPStatus.NO_CONTENT)
    streams: Counter[str] = request.app.state.streams
    if streams[caller.name] >= MOST_STREAMS:
        raise TooManyRequests(f"{MOST_STREAMS} streams of events are open already")
    events = _counted(streams, caller.name, _events(parts, job_id, request, seen or 0, first))
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.post("/{job_id}/cancel", status_code=HTTPStatus.ACCEPTED, summary="Cancel a job")
def cancel_job(job_id: JobId, parts: PartsOf) -> JobSchema:
    """Ask for a job to stop; its state is ``cancelled`` once it has. A finished job stays as it is."""
    return JobSchema.of(parts.jobs.request_cancel(job_id))


@router.post("/{job_id}/requeue", status_code=HTTPStatus.ACCEPTED, summary="Do a failed job again")
def requeue_job(job_id: JobId, parts: PartsOf) -> JobSchema:
    """Let a failed job begin anew with all its attempts, for example when what made it fail was mended."""
    check_room(parts)
    job = parts.jobs.requeue(job_id)
    parts.doorbell.ring(Stage.PREPARE)
    return JobSchema.of(job)


@router.delete("/{job_id}", status_code=HTTPStatus.NO_CONTENT, summary="Delete a job")
def delete_job(job_id: JobId, parts: PartsOf) -> None:
    """Delete results, study and every copy."""
    parts.jobs.purge(job_id)
    parts.storage.delete(job_key(job_id))


@router.get("/{job_id}/dose", summary="Fetch the RTDOSE", response_class=FileResponse)
def get_dose(job_id: JobId, parts: PartsOf) -> FileResponse:
    """Return the predicted dose."""
    return result_file(parts, job_id, DOSE, DICOM)


@router.get("/{job_id}/plan", summary="Fetch the RTPLAN", response_class=FileResponse)
def get_plan(job_id: JobId, parts: PartsOf) -> FileResponse:
    """Return the plan that the dose refers to: the study's own, or the companion of a study that has none."""
    return result_file(parts, job_id, PLAN, DICOM)


@router.get("/{job_id}/report", summary="Fetch the report", response_class=FileResponse)
def get_report(job_id: JobId, parts: PartsOf, accept: Annotated[str, Header()] = "*/*") -> FileResponse:
    """Return the report as JSON, HTML, PDF or CSV, whichever ``Accept`` prefers."""
    media_type = choose_media_type(accept)
    return result_file(parts, job_id, REPORTS[media_type], media_type)


@router.get("/{job_id}/archive", summary="Fetch all results", response_class=FileResponse)
def get_archive(job_id: JobId, parts: PartsOf) -> FileResponse:
    """Return all results as one zip archive."""
    return result_file(parts, job_id, ARCHIVE, "application/zip")


def choose_media_type(accept: str) -> str:
    """Choose the form of the report that an ``Accept`` header prefers (RFC 9110 section 12.5.1).

    Raises
    ------
    NotAcceptable
        If it allows none.
    """
    best, best_quality = "", 0.0
    for offered in REPORTS:
        matches = [(r.count("*"), q) for r, q in _ranges(accept) if r in {offered, offered.split("/")[0] + "/*", "*/*"}]
        # The most specific range counts
        quality = min(matches, default=(0, 0.0))[1]
        if quality > best_quality:
            best, best_quality = offered, quality
    if not best:
        raise NotAcceptable(f"the report comes as {', '.join(REPORTS)}")
    return best


def _ranges(accept: str) -> list[tuple[str, float]]:
    ranges = []
    for part in accept.split(","):
        media_range, *options = (option.strip().lower() for option in part.split(";"))
        quality = next((option[2:] for option in options if option.startswith("q=")), "1")
        try:
            ranges.append((media_range, float(quality)))
        except ValueError:
            ranges.append((media_range, 0.0))
    return ranges


def result_file(parts: Parts, job_id: str, name: str, media_type: str) -> FileResponse:
    """Answer with a file that a job has made.

    Raises
    ------
    ResultsNotReady, ResultAbsent
    """
    job = parts.jobs.get(job_id)
    if job.state in {State.FAILED, State.CANCELLED}:
        raise _no_results(job)
    if job.state is not State.SUCCEEDED:
        raise ResultsNotReady(f"the job is {job.state}")
    with ExitStack() as stored:
        try:
            folder = stored.enter_context(parts.storage.reading(job_key(job_id, job.outputs[Stage.PUBLISH]), name))
        except FileNotFoundError:
            # Deleted a moment ago? Then that is the answer
            parts.jobs.get(job_id)
            raise
        if not (folder / name).is_file():
            raise ResultAbsent("the job has no such result")
        # The name tells which job, not which patient
        return StoredFile(stored.pop_all(), folder / name, media_type, filename=f"{job_id[:8]}-{name}")


class StoredFile(FileResponse):
    """An answer with a file from storage, which is held until the answer was sent or broke off."""

    def __init__(self, stored: ExitStack, path: Path, media_type: str, *, filename: str) -> None:
        super().__init__(path, media_type=media_type, filename=filename)
        self._stored = stored

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stored.close()


def _no_results(job: Job) -> DiffDPError:
    if job.error is None:
        return ResultsNotReady(f"the job is {job.state} and has no results", code="no-results")
    return ResultsNotReady(job.error.message, code=job.error.code, details=job.error.details)


def _retry_after_s(job: Job) -> int:
    return 1 if job.state is not State.QUEUED else 2


async def _counted(streams: Counter[str], caller: str, events: AsyncIterator[str]) -> AsyncIterator[str]:
    streams[caller] += 1
    try:
        async for event in events:
            yield event
    finally:
        streams[caller] -= 1


async def _events(parts: Parts, job_id: str, request: Request, seen: int, first: list[Job]) -> AsyncIterator[str]:
    """Send events from the database, so that any API process can, whichever served the listener before."""
    yield f"retry: {RECONNECT_MS}\n\n"
    jobs, silent_s = first, 0.0
    while not await request.is_disconnected():
        for job in jobs:
            seen, silent_s = job.revision, 0.0
            body = json.dumps(JobSchema.of(job).model_dump(mode="json"))
            yield f"id: {seen}\nevent: job\ndata: {body}\n\n"
        if jobs and jobs[-1].state.is_final and not await _goes_on(parts, job_id, seen):
            return
        if silent_s >= KEEP_ALIVE_S:
            silent_s = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(EVENT_POLL_S)
        silent_s += EVENT_POLL_S
        try:
            if not await is_still_admitted(request):
                return
            has_changed = (await parts.look(job_id)).revision > seen
            jobs = await run_in_threadpool(parts.jobs.events, job_id, seen) if has_changed else []
        except SQLAlchemyError as error:
            # The listener comes back with the number of the last event that it has heard
            log.warning("the job database does not answer, a listener is sent away", exc_info=error)
            return
        except DiffDPError:
            yield "event: purged\ndata: {}\n\n"
            return


async def _goes_on(parts: Parts, job_id: str, seen: int) -> bool:
    """Whether a job that had ended was requeued since."""
    try:
        return (await parts.look(job_id)).revision > seen
    except DiffDPError:
        return False

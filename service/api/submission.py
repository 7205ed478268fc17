"""``POST /v1/jobs``: from a request's body to a job."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from pydantic import ValidationError
from pydantic_core import from_json

from service.api.context import Parts, PartsOf
from service.api.gate import count_submission
from service.api.problems import validation_details
from service.api.schemas import JobSchema
from service.errors import CallbackRefused, KeyReused, ParametersError, QueueFull, UploadTooLarge, UploadTooSlow
from service.intake.limits import Limits
from service.intake.upload import Upload
from service.jobs.callbacks import Receivers
from service.jobs.job import Examination, Job, Parameters
from service.jobs.states import Stage
from service.storage.layout import STUDY, job_key

log = logging.getLogger(__name__)

BLOCK_BYTES = 2**20
RETRY_AFTER_S = 1
WITHOUT_INFLUENCE = {"priority", "callback_url", "model"}
"""Parameters on which the dose does not depend; the model counts by its weights, whether it was named or not."""

router = APIRouter(prefix="/v1", tags=["jobs"])

BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {
    "schema": {
        "type": "object",
        "required": ["files"],
        "properties": {
            "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
            "parameters": {"type": "string", "description": "JSON; the same names as in the query."},
        },
    }
}
QUERY = [
    {"name": name, "in": "query", "required": False, "description": schema.pop("description", ""), "schema": schema}
    for name, schema in Parameters.model_json_schema()["properties"].items()
]


@router.post(
    "/jobs",
    status_code=HTTPStatus.ACCEPTED,
    summary="Post a study",
    dependencies=[Depends(count_submission)],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/zip": BINARY, "multipart/form-data": FORM, "multipart/related": BINARY},
        },
        "parameters": QUERY,
    },
)
async def post_job(
    request: Request,
    response: Response,
    parts: PartsOf,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> JobSchema:
    """Store a study, examine it, and accept it as a job; nothing is kept of one that is refused."""
    await run_in_threadpool(check_room, parts)
    job = await _receive(request, parts, idempotency_key)
    log.info("accepted", extra={"job": job.id})
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return JobSchema.of(job)


async def _receive(request: Request, parts: Parts, idempotency_key: str | None) -> Job:
    limits = Limits.of(parts.settings)
    _check_length(request, limits)
    job_id = uuid4().hex
    async with contextmanager_in_threadpool(parts.storage.writing(job_key(job_id, STUDY))) as folder:
        with Upload(request.headers.get("Content-Type", ""), folder, limits) as upload:
            await _stream(request, upload, parts.settings.body_timeout_s)
        parameters = _parameters(request, upload.parameters)
        _check_callback(parts, parameters)
        examination = await parts.examiner(folder, parameters, tenant=parts.tenant)
        # Others may have come while this one was read
        await run_in_threadpool(check_room, parts)
    content_sha256 = _digest(upload.files_sha256, parameters.model_dump_json())
    try:
        accepted = await run_in_threadpool(
            parts.jobs.add,
            job_id,
            parameters,
            examination,
            content_sha256=content_sha256,
            idempotency_key=idempotency_key,
            fingerprint=_fingerprint(parts, upload, parameters, examination),
            request_id=request.state.request_id,
        )
    except KeyReused:
        await run_in_threadpool(parts.storage.delete, job_key(job_id))
        raise
    # After any other error there may be a job of which only the answer was lost; without one, a sweep deletes its study
    if accepted.id != job_id:
        await run_in_threadpool(parts.storage.delete, job_key(job_id))
    await run_in_threadpool(parts.doorbell.ring, Stage.PREPARE)
    return accepted


def check_room(parts: Parts) -> None:
    """Pass if the queue has room for a job of the caller's tenant.

    Raises
    ------
    QueueFull
        If not.
    """
    if parts.jobs.unfinished() >= parts.settings.queue_limit:
        raise QueueFull("the queue is full, no more jobs are taken for now")
    limit = parts.settings.tenant_queue_limit
    if limit and parts.jobs.unfinished_own() >= limit:
        raise QueueFull(f"{limit} of your jobs are not finished, no more are taken for now")


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _fingerprint(parts: Parts, upload: Upload, parameters: Parameters, examination: Examination) -> str:
    """Return a digest of all that the dose depends on: the study, the model's weights, and what was asked for."""
    weights_sha256 = parts.manifests[examination.model].weights_sha256
    return _digest(upload.files_sha256, weights_sha256, parameters.model_dump_json(exclude=WITHOUT_INFLUENCE))


def _check_callback(parts: Parts, parameters: Parameters) -> None:
    if parameters.callback_url is None:
        return
    if not parts.settings.webhook_secrets:
        raise CallbackRefused("this server makes no calls back: it has no secret to sign them with")
    Receivers.of(parts.settings).parse(parameters.callback_url)


def _check_length(request: Request, limits: Limits) -> None:
    """Refuse at once what is declared to be too large; what is not declared is counted as it comes."""
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > limits.max_body_bytes:
        raise UploadTooLarge(f"the body is larger than {limits.max_body_bytes} bytes")


async def _stream(request: Request, upload: Upload, timeout_s: float) -> None:
    """Write the body in large blocks: a change of thread for each packet would cost more than the writing."""
    packets = request.stream()
    while block := await _block(packets, timeout_s):
        await run_in_threadpool(upload.write, block)
    await run_in_threadpool(upload.close)


async def _block(packets: AsyncIterator[bytes], timeout_s: float) -> bytes:
    """Return the next block of a body, nothing at its end; a time for each packet would let single bytes trickle in."""
    block = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for packet in packets:
                block += packet
                if len(block) >= BLOCK_BYTES:
                    break
    except TimeoutError:
        raise UploadTooSlow(f"less than {BLOCK_BYTES} bytes of the body came in {timeout_s:g} s") from None
    return bytes(block)


def _parameters(request: Request, part: bytes | None) -> Parameters:
    """Join the parameters of the query and of the part; each may be given once."""
    try:
        # Unlike Python's own reader it takes neither a lone surrogate, which nothing could write again, nor any depth
        given = from_json(part, allow_inf_nan=False) if part else {}
    except ValueError:
        raise ParametersError("the part 'parameters' is not JSON") from None
    if not isinstance(given, dict):
        raise ParametersError("the part 'parameters' must be a JSON object")
    for name, value in request.query_params.multi_items():
        if name in given:
            raise ParametersError(f"the parameter {name!r} is given twice")
        given[name] = value
    try:
        return Parameters.model_validate(given)
    except ValidationError as error:
        details = validation_details(error.errors())
        raise ParametersError("some parameters are unknown or cannot be used", details=details) from None

"""Errors as answers: RFC 9457 problem details, each with a stable code and no patient data."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from model import errors as model_errors
from model.errors import DiffDPError
from service import errors
from service.api.headers import SECURITY_HEADERS

log = logging.getLogger(__name__)

STATUS: Mapping[type[DiffDPError], HTTPStatus] = {
    DiffDPError: HTTPStatus.INTERNAL_SERVER_ERROR,
    model_errors.StudyError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UploadError: HTTPStatus.BAD_REQUEST,
    errors.UploadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UploadTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    errors.MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.ParametersError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    errors.JobNotFound: HTTPStatus.NOT_FOUND,
    errors.ModelNotFound: HTTPStatus.NOT_FOUND,
    errors.JobPurged: HTTPStatus.GONE,
    errors.CallbackRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RequeueRefused: HTTPStatus.CONFLICT,
    errors.ResultsNotReady: HTTPStatus.CONFLICT,
    errors.ResultAbsent: HTTPStatus.NOT_FOUND,
    errors.Unauthorised: HTTPStatus.UNAUTHORIZED,
    errors.HostUnknown: HTTPStatus.BAD_REQUEST,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    errors.IssuerUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.KeyNotFound: HTTPStatus.NOT_FOUND,
    errors.NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
}
"""The status of each error; of the nearest base where an error is not listed."""

RETRY_AFTER_S: Mapping[HTTPStatus, int] = {
    HTTPStatus.TOO_MANY_REQUESTS: 30,
    HTTPStatus.SERVICE_UNAVAILABLE: 10,
}

CHALLENGES: Mapping[HTTPStatus, str] = {
    HTTPStatus.UNAUTHORIZED: "Bearer",
    HTTPStatus.FORBIDDEN: 'Bearer error="insufficient_scope"',
}
"""What tells a caller how to show who it is (RFC 6750 section 3)."""

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="urn:diffdp: and the code.")
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable name of the rule that was broken.")
    details: dict[str, object] = Field(default_factory=dict, description="What was found and what was expected.")


def _described(text: str, **headers: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
        "headers": {
            name.replace("_", "-"): {"description": h, "schema": {"type": "string"}} for name, h in headers.items()
        },
    }


_AGAIN = "Seconds after which to come again."
DESCRIBED: dict[int | str, dict[str, Any]] = {
    "4XX": _described("The request cannot be served as it is; `code` says why, see docs/refusals.md."),
    "5XX": _described("The service has failed."),
    HTTPStatus.UNAUTHORIZED: _described("A valid key or token is needed.", WWW_Authenticate="How to show one."),
    HTTPStatus.FORBIDDEN: _described("The key or token does not allow it.", WWW_Authenticate="What is missing."),
    HTTPStatus.TOO_MANY_REQUESTS: _described("Too many requests, or too many jobs wait.", Retry_After=_AGAIN),
    HTTPStatus.SERVICE_UNAVAILABLE: _described("Something that the service needs is away.", Retry_After=_AGAIN),
}
"""Errors as the OpenAPI document describes them for every operation."""


def status_of(error: type[DiffDPError]) -> HTTPStatus:
    """Return the status with which an error is answered."""
    return next(STATUS[cls] for cls in error.__mro__ if cls in STATUS)


def problem(status: HTTPStatus, code: str, detail: str, details: Mapping[str, object] | None = None) -> Problem:
    """Make a problem."""
    return Problem(
        type=f"urn:diffdp:{code}",
        title=status.phrase,
        status=status,
        detail=detail,
        code=code,
        details=dict(details or {}),
    )


def answer(body: Problem) -> JSONResponse:
    """Make the answer that carries a problem."""
    status = HTTPStatus(body.status)
    headers = {}
    if status in RETRY_AFTER_S:
        headers["Retry-After"] = str(body.details.get("retry_after_s", RETRY_AFTER_S[status]))
    if status in CHALLENGES:
        headers["WWW-Authenticate"] = CHALLENGES[status]
    return JSONResponse(body.model_dump(), status_code=status, headers=headers, media_type=MEDIA_TYPE)


def validation_details(found: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return which parameters were wrong and why, without the values that came."""
    places = [{"parameter": ".".join(map(str, e["loc"])), "reason": str(e["msg"])} for e in found]  # type: ignore[call-overload]
    return {"parameters": places}


def install(app: FastAPI) -> None:
    """Make the application answer every error as a problem."""

    @app.exception_handler(DiffDPError)
    async def deliberate(_request: Request, error: DiffDPError) -> JSONResponse:
        status = status_of(type(error))
        if status is HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("an error that should not come here", exc_info=error)
        return answer(problem(status, error.rule, error.message, error.details))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        details = validation_details(error.errors())
        return answer(
            problem(
                HTTPStatus.UNPROCESSABLE_ENTITY, errors.ParametersError.code, "some parameters cannot be used", details
            )
        )

    @app.exception_handler(HTTPException)
    async def routing(_request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        code = status.phrase.lower().replace(" ", "-")
        reply = answer(problem(status, code, str(error.detail)))
        reply.headers.update(error.headers or {})
        return reply

    @app.exception_handler(InterfaceError)
    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeoutError)
    async def database(_request: Request, error: Exception) -> JSONResponse:
        log.error("the job database does not answer", exc_info=error)
        return answer(
            problem(HTTPStatus.SERVICE_UNAVAILABLE, "database-unavailable", "the job database does not answer")
        )

    @app.exception_handler(OSError)
    async def storage(_request: Request, error: OSError) -> JSONResponse:
        log.error("the storage cannot be used", exc_info=error)
        return answer(problem(HTTPStatus.SERVICE_UNAVAILABLE, "storage-unavailable", "the storage cannot be used"))

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> Response:
        log.info("a caller left before the end of its request")
        return Response(status_code=HTTPStatus.BAD_REQUEST)

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, error: Exception) -> JSONResponse:
        log.error("unexpected", exc_info=error)
        reply = answer(problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "an unexpected error"))
        # It does not come by the middleware that puts them on every other answer
        reply.headers.update(SECURITY_HEADERS)
        return reply

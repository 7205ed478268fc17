"""Writes into the audit log what callers did, before they get the answer: without its entry nothing is answered."""

import logging
import re
from http import HTTPStatus

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.audit import Act, AuditLog
from service.access.caller import Caller
from service.api.problems import answer, problem

log = logging.getLogger(__name__)

UNRECORDED = {"list_jobs", "get_job", "follow_job", "list_models", "get_model"}
"""Looks at states and models, which come many times a second and show nothing of a patient; all else is recorded."""

REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}

JOB = re.compile(r"[0-9a-f]{32}")
"""Whatever else stands where a job's identifier should be is not written down: it could be a name."""


class Auditing:
    """Records acts on the API."""

    def __init__(self, app: ASGIApp, audit: AuditLog) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        has_begun = has_failed = False

        async def send_recorded(message: Message) -> None:
            nonlocal has_begun, has_failed
            if message["type"] == "http.response.start":
                has_begun = True
                has_failed = not await self._record(scope, message["status"], Headers(raw=message["headers"]))
                if has_failed:
                    await _UNRECORDABLE(scope, receive, send)
            if not has_failed:
                await send(message)

        try:
            await self._app(scope, receive, send_recorded)
        except Exception:
            if not has_begun:
                await self._record(scope, HTTPStatus.INTERNAL_SERVER_ERROR, Headers())
            raise

    async def _record(self, scope: Scope, status: int, headers: Headers) -> bool:
        """Record an act if it is one to record; says whether all is well."""
        action = getattr(scope.get("endpoint"), "__name__", None)
        if action is None or not _counts(action, scope["method"], status):
            return True
        caller: Caller | None = scope.get("state", {}).get("caller")
        subject = scope.get("path_params", {}).get("job_id") or headers.get("Location", "").rpartition("/")[2]
        act = Act(
            caller=caller.name if caller else "unknown",
            tenant=caller.tenant if caller else None,
            action=action,
            subject=subject if JOB.fullmatch(subject) else None,
            address=scope["client"][0] if scope.get("client") else "",
            status=int(status),
        )
        try:
            await run_in_threadpool(self._audit.record, act)
        except SQLAlchemyError as error:
            log.exception("the audit log cannot be written", exc_info=error)
            return False
        return True


def _counts(action: str, method: str, status: int) -> bool:
    if status in REFUSED:
        return True
    if status in {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.TOO_MANY_REQUESTS} or action in UNRECORDED:
        return False
    # Whoever asks for results that are not there gets nothing, and may ask often
    return method not in {"GET", "HEAD"} or status < HTTPStatus.BAD_REQUEST


_UNRECORDABLE = answer(
    problem(HTTPStatus.SERVICE_UNAVAILABLE, "database-unavailable", "the job database does not answer")
)

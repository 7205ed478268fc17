"""Who may come in: keys, bearer tokens, or anybody on this machine while there are neither; and how often."""

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.access.caller import LOCAL, Caller, Scope
from service.access.keys import KeyStore, may_be_key
from service.access.rates import Counted, Rates
from service.access.tokens import TokenCheck
from service.api.together import Together
from service.errors import Forbidden, HostUnknown, IssuerUnavailable, Unauthorised
from service.jobs.job import DEFAULT_TENANT
from service.settings import Settings

LOCAL_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
"""Without keys only these names are answered: a web page elsewhere could have its name resolve to this machine."""

RECENT_S = 5.0
"""Time for which a key or token that was found good is taken to be so; to revoke one takes so long."""

MOST_RECENT = 4096

SCOPES = {"GET": Scope.READ, "HEAD": Scope.READ, "POST": Scope.SUBMIT, "DELETE": Scope.DELETE}
"""What a request needs, by its method, so that no new operation can be forgotten."""

SHOWN = HTTPBearer(
    auto_error=False,
    description="An API key, or a token of the issuer that the operator has named; see docs/operating.md.",
)
"""Describes to readers of the OpenAPI document what the gate reads by itself."""


class Gate:
    """Lets callers in.

    Parameters
    ----------
    tokens
        None where no bearer tokens are accepted.
    clock
        Seconds that only grow.
    """

    def __init__(
        self,
        settings: Settings,
        keys: KeyStore,
        tokens: TokenCheck | None,
        rates: Rates,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        # However many try keys, there are a few questions a second
        self._found = Together(keys.find)
        self._tokens = tokens
        self._rates = rates
        self._clock = clock
        everything = frozenset(Scope)
        self._set = [
            (_digest(key.get_secret_value()), Caller(DEFAULT_TENANT, f"setting:{place}", everything))
            for place, key in enumerate(settings.api_keys, start=1)
        ]
        # Where others than this machine call, nothing that happens to the keys in the database may open the service
        self._is_closed = bool(self._set) or tokens is not None or not settings.is_local
        self._closed_seen_at = float("-inf")
        self._recent: dict[bytes, tuple[Caller, float]] = {}

    async def is_open(self) -> bool:
        """Whether no key is needed: none is set, none was ever made, and no issuer is named."""
        if not self._is_closed and self._clock() - self._closed_seen_at > RECENT_S:
            self._is_closed = not await run_in_threadpool(self._keys.is_empty)
            self._closed_seen_at = self._clock()
        return not self._is_closed

    async def check_host(self, request: Request) -> None:
        """Refuse a page from elsewhere that speaks to a server without keys.

        Raises
        ------
        HostUnknown
        """
        if not await self.is_open():
            return
        # A browser says from which page a request comes; a form there needs no leave to post here
        origin = request.headers.get("Origin")
        names = [request.headers.get("Host", ""), *([] if origin is None else [origin.partition("://")[2]])]
        if not all(map(LOCAL_HOST.fullmatch, names)):
            raise HostUnknown("without API keys only callers that name this machine as local are answered")

    async def admit(self, request: Request, scope: Scope) -> Caller:
        """Return who calls, and note it in the request.

        Raises
        ------
        Unauthorised, Forbidden, TooManyRequests, HostUnknown, IssuerUnavailable
        """
        await self.check_host(request)
        caller = LOCAL if await self.is_open() else await self._identified(request)
        request.state.caller = caller
        await self._count(Counted.CALLS, caller.name)
        if scope not in caller.scopes:
            raise Forbidden(f"this needs the scope {scope}", details={"scope": scope.value})
        return caller

    async def still_admits(self, request: Request) -> bool:
        """Whether a caller that was let in would be let in again as the same; not counted, for answers that last."""
        try:
            caller = LOCAL if await self.is_open() else await self._known(_shown(request))
        except (Unauthorised, Forbidden, IssuerUnavailable):
            return False
        return bool(caller == request.state.caller)

    async def count_submission(self, caller: Caller) -> None:
        """Count a study that a caller posts.

        Raises
        ------
        TooManyRequests
        """
        await self._count(Counted.SUBMISSIONS, caller.tenant)

    async def _identified(self, request: Request) -> Caller:
        try:
            return await self._known(_shown(request))
        except Unauthorised:
            await self._count(Counted.LOST_KEYS, request.client.host if request.client else "")
            raise

    async def _known(self, shown: str) -> Caller:
        digest = _digest(shown)
        # Every key is compared in full, so that the time tells nothing
        found = [caller for of, caller in self._set if hmac.compare_digest(digest, of)]
        if found:
            return found[0]
        recent, until = self._recent.get(digest, (None, 0.0))
        if recent is not None and self._clock() < until:
            return recent
        caller = await self._look_up(shown)
        if len(self._recent) >= MOST_RECENT:
            self._recent.clear()
        self._recent[digest] = (caller, self._clock() + RECENT_S)
        return caller

    async def _look_up(self, shown: str) -> Caller:
        if may_be_key(shown) and (key := await self._found.ask(shown)) is not None:
            return key.caller
        if self._tokens is not None and shown.count(".") == 2:
            return await run_in_threadpool(self._tokens.caller, shown)
        raise Unauthorised("a valid API key is needed: Authorization: Bearer …")

    async def _count(self, what: Counted, who: str) -> None:
        if self._rates.must_tell(what, who):
            await run_in_threadpool(self._rates.count, what, who)
        else:
            self._rates.count(what, who)


def _shown(request: Request) -> str:
    kind, _, shown = request.headers.get("Authorization", "").partition(" ")
    return shown.strip() if kind.lower() == "bearer" else ""


def _digest(shown: str) -> bytes:
    return hashlib.sha256(shown.encode()).digest()


async def caller_of(
    request: Request, _shown: Annotated[HTTPAuthorizationCredentials | None, Depends(SHOWN)] = None
) -> Caller:
    """Return who sends a request, if that one may do what it asks for."""
    gate: Gate = request.app.state.service.gate
    return await gate.admit(request, SCOPES[request.method])


CallerOf = Annotated[Caller, Depends(caller_of)]


async def count_submission(request: Request, caller: CallerOf) -> None:
    """Pass if the caller's tenant may post a study now."""
    gate: Gate = request.app.state.service.gate
    await gate.count_submission(caller)


async def is_still_admitted(request: Request) -> bool:
    """Whether the caller of a request that is still being answered has not lost what let it in."""
    gate: Gate = request.app.state.service.gate
    return await gate.still_admits(request)

"""Bearer tokens of an OpenID Connect issuer: JSON Web Tokens (RFC 7519), checked with the keys that it publishes.

The issuer's keys are found by its discovery document, kept for a while, and asked for again when a token names one that
is not among them, as happens when the issuer changes its keys.
"""

import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt

from service.access.caller import TENANT, Caller, Scope
from service.errors import Forbidden, IssuerUnavailable, Unauthorised
from service.settings import Settings

log = logging.getLogger(__name__)

DISCOVERY = "/.well-known/openid-configuration"

FRESH_S = 600.0
"""Age at which keys are asked for again; one that the issuer has withdrawn opens nothing after that."""
USABLE_S = 3600.0
"""Age to which keys are used while the issuer does not answer."""
PAUSE_S = 10.0
"""Shortest time between two questions, lest tokens with invented keys become questions to the issuer."""
TIMEOUT_S = 5.0

LONGEST_SUBJECT = 255
"""Characters of a subject, as OpenID Connect Core says."""

Fetch = Callable[[str], Any]


class IssuerKeys:
    """The public keys of an issuer.

    Parameters
    ----------
    fetch
        Returns the JSON at an address, or raises `httpx.HTTPError` or ValueError.
    clock
        Seconds that only grow.
    """

    def __init__(self, issuer: str, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._keys: list[dict[str, Any]] = []
        self._read_at = self._asked_at = float("-inf")
        self._asking = threading.Lock()

    def find(self, kid: str | None) -> dict[str, Any] | None:
        """Return the key with an identifier, or the only one where a token names none; None if there is none.

        Raises
        ------
        IssuerUnavailable
            If the issuer's keys are not known and cannot be read.
        """
        found = self._among_known(kid)
        if found is None or self._age_s() > FRESH_S:
            # Whoever knows the key does not wait for another who asks
            if self._asking.acquire(blocking=found is None or self._age_s() > USABLE_S):
                try:
                    self._ask()
                finally:
                    self._asking.release()
            found = self._among_known(kid)
        if self._age_s() > USABLE_S:
            raise IssuerUnavailable("the issuer of bearer tokens does not answer, so none can be checked")
        return found

    def _age_s(self) -> float:
        return self._clock() - self._read_at

    def _among_known(self, kid: str | None) -> dict[str, Any] | None:
        named = [key for key in self._keys if kid is None or key.get("kid") == kid]
        return named[0] if len(named) == 1 else None

    def _ask(self) -> None:
        if self._clock() - self._asked_at <= PAUSE_S:
            return
        self._asked_at = self._clock()
        try:
            self._keys = self._published()
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            log.warning("the keys of the issuer of bearer tokens cannot be read", exc_info=error)
        else:
            self._read_at = self._clock()

    def _published(self) -> list[dict[str, Any]]:
        described = self._fetch(self._issuer.rstrip("/") + DISCOVERY)
        if described["issuer"] != self._issuer:
            raise ValueError("the issuer's description names another one")
        address = str(described["jwks_uri"])
        if urlsplit(address).scheme not in {"https", urlsplit(self._issuer).scheme}:
            raise ValueError("the issuer's keys are not reached by https")
        keys = self._fetch(address)["keys"]
        return [key for key in keys if isinstance(key, dict) and key.get("use", "sig") == "sig"]


class TokenCheck:
    """Turns tokens into callers.

    Parameters
    ----------
    algorithms
        That a token may be signed with; only asymmetric ones.
    leeway_s
        By how much the issuer's clock may differ.
    tenant_claim, scope_claim
        Names of claims, or paths to them with dots; scopes are a list, or words with spaces between.
    scope_prefix
        What stands before the names of our scopes.
    """

    def __init__(
        self,
        keys: IssuerKeys,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str],
        leeway_s: float,
        tenant_claim: str,
        scope_claim: str,
        scope_prefix: str,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._algorithms = list(algorithms)
        self._leeway_s = leeway_s
        self._tenant_claim = tenant_claim
        self._scope_claim = scope_claim
        self._scope_prefix = scope_prefix

    @classmethod
    def of(cls, settings: Settings) -> "TokenCheck | None":
        """Return the check that the settings ask for, None if they name no issuer."""
        if not settings.oidc_issuer:
            return None
        return cls(
            IssuerKeys(settings.oidc_issuer, _Web().fetch),
            issuer=settings.oidc_issuer,
            audience=settings.oidc_audience,
            algorithms=settings.oidc_algorithms,
            leeway_s=settings.oidc_leeway_s,
            tenant_claim=settings.oidc_tenant_claim,
            scope_claim=settings.oidc_scope_claim,
            scope_prefix=settings.oidc_scope_prefix,
        )

    def caller(self, token: str) -> Caller:
        """Return who shows a token.

        Raises
        ------
        Unauthorised
            If it is not a valid token for this service.
        Forbidden
            If it is, but names no tenant.
        IssuerUnavailable
        """
        claims = self._claims(token)
        tenant = _claim(claims, self._tenant_claim)
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
            raise Forbidden(f"the bearer token names no tenant in its claim {self._tenant_claim}")
        given = _claim(claims, self._scope_claim)
        words = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        scopes = frozenset(scope for scope in Scope if self._scope_prefix + scope in words)
        return Caller(tenant, f"user:{claims['sub']}", scopes)

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            published = self._keys.find(header.get("kid"))
            # What the key may be used for is the issuer's word; without one it is the token's, among those allowed
            if published is None or header["alg"] not in self._algorithms:
                raise jwt.InvalidKeyError
            claims: dict[str, Any] = jwt.decode(
                token,
                jwt.PyJWK(published, published.get("alg") or header["alg"]),
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        # KeyError: before its signature is checked a token may lack even its algorithm
        except (jwt.PyJWTError, KeyError) as error:
            raise Unauthorised(f"the bearer token is not valid here ({type(error).__name__})") from None
        if not 0 < len(claims["sub"]) <= LONGEST_SUBJECT or not claims["sub"].isprintable():
            # It must fit into the audit log; PostgreSQL takes no NUL
            raise Unauthorised("the bearer token's subject is empty, too long or not printable")
        return claims


class _Web:
    """Reads JSON by HTTP; redirects are not followed."""

    def fetch(self, address: str) -> Any:
        answer = httpx.get(address, timeout=TIMEOUT_S, verify=self._trust)
        return answer.raise_for_status().json()

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context()


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim by its name, which may hold dots, else by a path through objects."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found

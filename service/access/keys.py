"""API keys in the job database: made, shown once, kept as a digest, revoked.

A key is ``diffdp_ID_SECRET``. The secret has 256 random bits, so a plain digest is safe to keep: there is nothing to
guess that a slow one would slow down.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, exists, select
from sqlalchemy.orm import Session

from service.access.caller import Caller, Scope
from service.errors import KeyNotFound
from service.jobs.tables import ApiKeyRow, writing

PREFIX = "diffdp"
"""Begins every key, so that programs that look for leaked keys find them."""

ID_BYTES, SECRET_BYTES = 6, 32
FORM = re.compile(f"{PREFIX}_(?P<id>[0-9a-f]{{{2 * ID_BYTES}}})_(?P<secret>.+)")


@dataclass(frozen=True)
class ApiKey:
    """A key as far as it is known once it was shown."""

    id: str
    name: str
    tenant: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @property
    def caller(self) -> Caller:
        """Whoever shows the key."""
        return Caller(self.tenant, f"key:{self.id}", self.scopes)


class KeyStore:
    """The keys.

    Parameters
    ----------
    engine
        Of the job database.
    clock
        Tells the time, aware, in UTC.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._writing = writing(engine)
        self._clock = clock

    def close(self) -> None:
        """Close all connections to the database."""
        self._engine.dispose()

    def create(
        self, name: str, tenant: str, scopes: Collection[Scope], *, lasts: timedelta | None = None
    ) -> tuple[str, ApiKey]:
        """Make a key; what is returned first is the key itself, which nobody can tell later."""
        now = self._clock()
        identifier, secret = secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
        row = ApiKeyRow(
            id=identifier,
            digest=_digest(secret),
            name=name,
            tenant=tenant,
            scopes=sorted(scopes),
            created_at=now,
            expires_at=None if lasts is None else now + lasts,
        )
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            session.add(row)
        return f"{PREFIX}_{identifier}_{secret}", _key(row)

    def all(self) -> list[ApiKey]:
        """Return all keys, the eldest first, with those that are expired or revoked."""
        with Session(self._engine) as session:
            return [_key(row) for row in session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.created_at))]

    def revoke(self, identifier: str) -> ApiKey:
        """Let a key open nothing any more.

        Raises
        ------
        KeyNotFound
        """
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            row = session.get(ApiKeyRow, identifier)
            if row is None:
                raise KeyNotFound("there is no key with this identifier")
            row.revoked_at = row.revoked_at or self._clock()
            return _key(row)

    def is_empty(self) -> bool:
        """Whether there never was a key; revoking the last one opens nothing to callers without."""
        with Session(self._engine) as session:
            return not session.scalar(select(exists(select(ApiKeyRow.id))))

    def find(self, shown: Collection[str]) -> Mapping[str, ApiKey | None]:
        """Return the keys that callers show, None for each that is none or opens nothing any more."""
        forms = {each: match for each in shown if (match := FORM.fullmatch(each))}
        query = select(ApiKeyRow).where(ApiKeyRow.id.in_({match["id"] for match in forms.values()}))
        with Session(self._engine) as session:
            rows = {row.id: row for row in session.scalars(query)}
        found = {each: self._opened(rows.get(match["id"]), match["secret"]) for each, match in forms.items()}
        return dict.fromkeys(shown) | found

    def _opened(self, row: ApiKeyRow | None, secret: str) -> ApiKey | None:
        if row is None or not hmac.compare_digest(row.digest, _digest(secret)):
            return None
        is_over = row.expires_at is not None and row.expires_at <= self._clock()
        return None if is_over or row.revoked_at is not None else _key(row)


def may_be_key(shown: str) -> bool:
    """Whether it is worth asking for a key."""
    return FORM.fullmatch(shown) is not None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: ApiKeyRow) -> ApiKey:
    scopes = frozenset(map(Scope, row.scopes))
    return ApiKey(row.id, row.name, row.tenant, scopes, row.created_at, row.expires_at, row.revoked_at)

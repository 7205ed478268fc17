"""How often callers may call: counted in Redis for all API processes together, or in this process without one."""

import logging
import math
import time
from collections.abc import Callable

from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import SlidingWindowCounterRateLimiter

from service.errors import TooManyRequests
from service.settings import Settings

log = logging.getLogger(__name__)

REDIS_AWAY_S = 10.0
"""Time for which a Redis that did not answer is not asked again; each process then counts for itself."""
REDIS_TIMEOUT_S = 1.0

LOST_KEYS_PER_MINUTE = 60
"""Requests without a valid key that are answered as such to one address; further ones as too many."""


class Rates:
    """The rates of callers.

    Parameters
    ----------
    shared
        Where all API processes count together, None where there is but one.
    """

    def __init__(
        self,
        *,
        calls_per_minute: int,
        submissions_per_minute: int,
        shared: Storage | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._calls = calls_per_minute
        self._submissions = submissions_per_minute
        self._shared = None if shared is None else SlidingWindowCounterRateLimiter(shared)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._clock = clock
        self._away_until = float("-inf")

    @classmethod
    def of(cls, settings: Settings) -> "Rates":
        """Return what the settings ask for; the broker's Redis counts where there is one."""
        shared = None
        if settings.broker_url.startswith(("redis://", "rediss://")):
            shared = RedisStorage(
                settings.broker_url,
                key_prefix="diffdp",
                wrap_exceptions=True,
                socket_connect_timeout=REDIS_TIMEOUT_S,
                socket_timeout=REDIS_TIMEOUT_S,
            )
        return cls(
            calls_per_minute=settings.calls_per_minute,
            submissions_per_minute=settings.submissions_per_minute,
            shared=shared,
        )

    @property
    def is_shared(self) -> bool:
        """Whether counting asks Redis, and so takes time."""
        return self._shared is not None

    def call(self, caller: str) -> None:
        """Count a request of a caller.

        Raises
        ------
        TooManyRequests
        """
        self._count(self._calls, "calls", caller)

    def submission(self, tenant: str) -> None:
        """Count a study of a tenant.

        Raises
        ------
        TooManyRequests
        """
        self._count(self._submissions, "submissions", tenant)

    def lost_key(self, address: str) -> None:
        """Count a request without a valid key from an address.

        Raises
        ------
        TooManyRequests
        """
        self._count(LOST_KEYS_PER_MINUTE, "lost keys", address)

    def _count(self, per_minute: int, what: str, who: str) -> None:
        if not per_minute:
            return
        limit = RateLimitItemPerMinute(per_minute)
        limiter = self._limiter()
        try:
            allowed = limiter.hit(limit, what, who)
            again_at = 0.0 if allowed else limiter.get_window_stats(limit, what, who).reset_time
        except StorageError as error:
            log.warning("Redis does not answer, this process counts requests for itself", exc_info=error)
            self._away_until = self._clock() + REDIS_AWAY_S
            self._count(per_minute, what, who)
            return
        if not allowed:
            wait_s = max(math.ceil(again_at - self._clock()), 1)
            raise TooManyRequests(f"more than {per_minute} {what} a minute", details={"retry_after_s": wait_s})

    def _limiter(self) -> SlidingWindowCounterRateLimiter:
        if self._shared is None or self._clock() < self._away_until:
            return self._own
        return self._shared

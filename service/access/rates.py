"""How often callers may call: counted in each API process, which tell each other through Redis where there is one.

Every second a process adds what it has counted to Redis and learns what all have counted. So a limit may be passed by
what the processes let through within a second, and a request costs no question to Redis, let alone one that waits for
it. The rate is that of the last sixty seconds, estimated from two whole minutes as if the elder one's requests had come
evenly.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from redis import Redis
from redis.exceptions import RedisError

from service.errors import TooManyRequests
from service.settings import Settings

log = logging.getLogger(__name__)

WINDOW_S = 60
TELL_S = 1.0
"""Time between two questions to Redis about one caller."""
REDIS_AWAY_S = 10.0
"""Time for which a Redis that did not answer is not asked again; each process then counts for itself."""
REDIS_TIMEOUT_S = 1.0

LOST_KEYS_PER_MINUTE = 60
"""Requests without a valid key that are answered as such to one address; further ones as too many."""


class Counted(StrEnum):
    """What is counted."""

    CALLS = "requests"
    """Of one key, or of one subject of tokens."""
    SUBMISSIONS = "studies"
    """Of one tenant."""
    LOST_KEYS = "requests without a valid key"
    """From one address."""


@dataclass
class _Tally:
    """Counts of one minute and the one before, by all processes as far as known; `untold` of them only by this one."""

    minute: int
    before: int = 0
    now: int = 0
    untold: int = 0
    told_at: float = float("-inf")

    def roll(self, minute: int) -> None:
        """Go on to a minute."""
        if minute != self.minute:
            self.before = self.now if minute == self.minute + 1 else 0
            self.minute, self.now, self.untold, self.told_at = minute, 0, 0, float("-inf")


class Rates:
    """The rates of callers.

    Parameters
    ----------
    redis
        Through which API processes tell each other, None where there is but one.
    clock
        Seconds since 1970, so that the minutes of all processes are the same.
    """

    def __init__(
        self,
        *,
        calls_per_minute: int,
        submissions_per_minute: int,
        redis: "Redis | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = {Counted.CALLS: calls_per_minute, Counted.SUBMISSIONS: submissions_per_minute}
        self._redis = redis
        self._clock = clock
        self._tallies: dict[tuple[Counted, str], _Tally] = {}
        self._tidied = 0
        self._lock = threading.Lock()
        self._away_until = float("-inf")

    @classmethod
    def of(cls, settings: Settings) -> "Rates":
        """Return what the settings ask for; the broker's Redis is used where there is one."""
        redis = None
        if settings.broker_url.startswith(("redis://", "rediss://")):
            redis = Redis.from_url(
                settings.broker_url, socket_connect_timeout=REDIS_TIMEOUT_S, socket_timeout=REDIS_TIMEOUT_S
            )
        return cls(
            calls_per_minute=settings.calls_per_minute,
            submissions_per_minute=settings.submissions_per_minute,
            redis=redis,
        )

    def must_tell(self, what: Counted, who: str) -> bool:
        """Whether the next `count` asks Redis, and so may wait for it."""
        if self._redis is None or self._clock() < self._away_until or not self._limit(what):
            return False
        tally = self._tallies.get((what, who))
        return tally is None or self._clock() - tally.told_at > TELL_S

    def count(self, what: Counted, who: str) -> None:
        """Count a request.

        Raises
        ------
        TooManyRequests
            If there were too many; it is then not counted.
        """
        limit = self._limit(what)
        if not limit:
            return
        if self.must_tell(what, who):
            self._tell(what, who)
        now = self._clock()
        with self._lock:
            tally = self._tally(what, who, now)
            share = now % WINDOW_S / WINDOW_S
            if tally.before * (1 - share) + tally.now + 1 <= limit:
                tally.now += 1
                tally.untold += 1
                return
            # Until enough of the minute before has gone by, or enough of this one in the next
            room = 1 - (limit - tally.now - 1) / tally.before if tally.now < limit else 2 - (limit - 1) / tally.now
            wait_s = math.floor((room - share) * WINDOW_S) + 1
        raise TooManyRequests(f"more than {limit} {what} a minute", details={"retry_after_s": wait_s})

    def _limit(self, what: Counted) -> int:
        return self._limits.get(what, LOST_KEYS_PER_MINUTE)

    def _tally(self, what: Counted, who: str, now: float) -> _Tally:
        minute = int(now // WINDOW_S)
        if minute != self._tidied:
            self._tallies = {key: tally for key, tally in self._tallies.items() if tally.minute >= minute - 1}
            self._tidied = minute
        tally = self._tallies.setdefault((what, who), _Tally(minute))
        tally.roll(minute)
        return tally

    def _tell(self, what: Counted, who: str) -> None:
        """Add what was counted here to Redis, and learn what was counted by all."""
        assert self._redis is not None  # noqa: S101 - see `must_tell`
        with self._lock:
            tally = self._tally(what, who, self._clock())
            minute, untold = tally.minute, tally.untold
            tally.untold, tally.told_at = 0, self._clock()
        keys = [f"diffdp:rate:{what.name}:{who}:{number}" for number in (minute - 1, minute)]
        try:
            asked = self._redis.pipeline(transaction=False)
            asked.get(keys[0])
            asked.incrby(keys[1], untold)
            asked.expire(keys[1], 2 * WINDOW_S)
            before, now, _ = asked.execute()
        except RedisError as error:
            log.warning("Redis does not answer, this process counts requests for itself", exc_info=error)
            self._away_until = self._clock() + REDIS_AWAY_S
            with self._lock:
                tally.untold += untold
            return
        with self._lock:
            if tally.minute == minute:
                tally.before, tally.now = int(before or 0), int(now) + tally.untold

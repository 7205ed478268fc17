"""Things that are done again and again beside the work on jobs."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Round:
    """An act and the time from its end to its next beginning."""

    act: Callable[[], None]
    every_s: float

    def go(self) -> None:
        """Act; a database or a disk that fails now may work the next time."""
        try:
            self.act()
        except (SQLAlchemyError, OSError) as error:
            log.warning("put off", exc_info=error)


def go_for_ever(rounds: Sequence[Round]) -> None:
    """Do each at once and then whenever it is due, one after the other."""
    due = dict.fromkeys(range(len(rounds)), 0.0)
    while True:
        for number, one in enumerate(rounds):
            if due[number] <= time.monotonic():
                one.go()
                due[number] = time.monotonic() + one.every_s
        time.sleep(max(min(due.values()) - time.monotonic(), 0.01))

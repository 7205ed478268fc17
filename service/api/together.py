"""Questions to the database that callers make it ask many times a second: those of a moment are put together."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

from fastapi.concurrency import run_in_threadpool

Question = TypeVar("Question")
Answer = TypeVar("Answer")

PAUSE_S = 0.02
"""Shortest time from one look into the database to the next."""
AT_ONCE = 1000
"""Most questions of one look; databases take only so many parameters."""


class Together(Generic[Question, Answer]):
    """Looks things up for all who ask within a moment at once.

    While a look is under way, and for a moment after it began, those who come gather for the next one. So there are a
    few looks a second however many ask, and nobody is told what was true before asking: nothing is kept.

    Parameters
    ----------
    look
        Answers some questions, called in a thread.
    """

    def __init__(self, look: Callable[[Collection[Question]], Mapping[Question, Answer]]) -> None:
        self._look = look
        self._gathered: set[Question] = set()
        self._answers: asyncio.Task[Mapping[Question, Answer]] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._looked_at = float("-inf")

    async def ask(self, question: Question) -> Answer:
        """Return the answer to a question, or raise what looking raises."""
        if self._answers is None or len(self._gathered) >= AT_ONCE:
            self._gathered = set()
            self._answers = asyncio.create_task(self._answer(self._gathered))
        self._gathered.add(question)
        # Whoever leaves does not take the answers from the others
        return (await asyncio.shield(self._answers))[question]

    async def _answer(self, questions: set[Question]) -> Mapping[Question, Answer]:
        async with self._one_at_a_time:
            await asyncio.sleep(self._looked_at + PAUSE_S - time.monotonic())
            self._looked_at = time.monotonic()
            if questions is self._gathered:
                # Whoever comes from now on is too late for this look
                self._answers = None
            return await run_in_threadpool(self._look, questions)

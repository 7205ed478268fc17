"""Run the examination where a crash, a memory bomb or an endless loop cannot hurt the caller."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from service.errors import StudyUnreadable
from service.intake.limits import Limits
from service.intake.messages import Answer, KnownModel, Request
from service.jobs.job import Examination, Parameters

GRACE_S = 5
"""What the examining process gets beyond its own time limit before it is killed from outside."""


class Examiner(Protocol):
    """Examines the folder of an upload."""

    async def __call__(self, folder: Path, parameters: Parameters) -> Examination:
        """Leave only the files of the study in the folder and say how it can be predicted, or raise `DiffDPError`."""


class SubprocessExaminer:
    """Examines in a process of its own, `service.intake.examine`.

    Parameters
    ----------
    models
        What must be known of each model.
    limits
        What the upload may expand to, and what the process may use.
    at_once
        How many examinations may run side by side; more wait.
    """

    def __init__(self, models: Mapping[str, KnownModel], limits: Limits, at_once: int = 2) -> None:
        self._models = dict(models)
        self._limits = limits
        self._turn = asyncio.Semaphore(at_once)

    async def __call__(self, folder: Path, parameters: Parameters) -> Examination:
        """Examine one upload."""
        request = Request(folder=folder, parameters=parameters, models=self._models, limits=self._limits)
        async with self._turn:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "service.intake.examine"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                # Every thread of a linear algebra library reserves address space, which is limited
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
            try:
                async with asyncio.timeout(self._limits.timeout_s + GRACE_S):
                    output, _ = await process.communicate(request.model_dump_json().encode())
            except TimeoutError:
                raise StudyUnreadable("reading the study took too long") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        try:
            answer = Answer.model_validate_json(output)
        except ValidationError:
            message = "the study cannot be read: it takes too much time or memory, or breaks the reader"
            raise StudyUnreadable(message) from None
        if answer.refusal is not None:
            raise answer.refusal.error()
        if answer.examination is None:
            raise StudyUnreadable("the study cannot be read")
        return answer.examination

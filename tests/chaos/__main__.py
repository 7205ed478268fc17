"""Kills parts of the service at random while jobs run, and writes down what became of the jobs."""

import argparse
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from model.cohort.neck import simulated_neck
from model.dicom.export import write_study
from service.intake.archive import pack
from service.jobs.outbox import DeliveryState, Outbox
from service.jobs.repository import JobRepository
from service.jobs.states import FINAL
from service.jobs.tables import connect
from tests.chaos.caller import SECRET, Caller, Receiver
from tests.chaos.findings import Findings, examine
from tests.chaos.stack import Distributed, Embedded, Stack
from tests.tiny import write_tiny_model

STUDIES = 4
SHAPE, SPACING_MM = (16, 48, 48), (12.0, 10.0, 10.0)

ABANDONED_S = 90
"""The hard limit of a stage, and so the age at which what is half-written is swept away."""
SETTINGS = {
    "device": "cpu", "lease_s": 5, "heartbeat_s": 0.5, "reap_s": 1, "ring_again_s": 5, "hard_limit_s": ABANDONED_S,
    # Chance may kill the workers of one job again and again, which must not count as its own fault here
    "max_attempts": 50,
    "webhook_secrets": SECRET, "webhook_allowed": "127.0.0.1", "webhook_attempts": 50, "webhook_pause_s": 0.5,
}  # fmt: skip

ABOUT = (
    "Parts are killed with SIGKILL at random moments while small simulated studies go through the whole service with",
    "the smallest network; in some of the kills Redis loses its data. Afterwards every accepted job must have ended",
    "exactly once, with a whole archive and the same dose as every other job of its study and seed; its receiver must",
    "have been called with a valid signature; and no file, lease, message or process may be left that has no place",
    "(`tests/chaos/findings.py`).",
)

PATIENCE_S = 3600.0
KILLS_UNTIL = 0.95
"""Share of the jobs that have ended by the last kill."""
LONGEST_PAUSE_S = 60.0
"""Between two kills, where no job comes to its end."""
SETTLE_S = 15.0


@dataclass(frozen=True)
class Outcome:
    """What one run has shown."""

    title: str
    jobs: int
    kills: Counter[str]
    repeated: int
    refused: int
    seconds: float
    findings: Findings


def main() -> int:
    """Run both stacks and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--embedded-jobs", type=int, default=50)
    parser.add_argument("--embedded-kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when")
    parser.add_argument("--only", choices=("distributed", "embedded"))
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/results/chaos.md"))
    given = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="diffdp-chaos-"))
    say(f"logs and data are in {folder}")
    write_tiny_model(folder / "models")
    studies = [_study(folder / "studies", number) for number in range(STUDIES)]
    outcomes = []
    for name, make, jobs, kills in (
        ("distributed", Distributed, given.jobs, given.kills),
        ("embedded", Embedded, given.embedded_jobs, given.embedded_kills),
    ):
        if given.only in {None, name}:
            chance = random.Random(given.seed)
            stack = make(folder / name, chance, model_dirs=(folder / "models",), **SETTINGS)
            outcomes.append(run(stack, studies, jobs, kills))
            # After each: the other may never come to its end
            given.out.write_text(table(outcomes, given.seed), encoding="utf-8")
            found = outcomes[-1].findings.faults
            say(f"{len(found)} faults; figures in {given.out}")
            for fault in found:
                say(f"  {fault}")
    faults = any(outcome.findings.faults for outcome in outcomes)
    if not faults:
        shutil.rmtree(folder)
    return int(faults)


def run(stack: Stack, studies: list[Path], jobs: int, kills: int) -> Outcome:
    """Let jobs run on a stack while its parts are killed."""
    say(f"{stack.title}: {jobs} jobs, {kills} kills")
    receiver = Receiver(random.Random(jobs))
    begun = time.monotonic()
    killed: Counter[str] = Counter()
    try:
        stack.start()
        wait_until(stack.is_ready, "the service")
        engine = connect(stack.settings.database)
        caller = Caller(stack.address, studies, receiver.url)
        caller.post(jobs)
        for number in range(kills):
            _wait_for_kill(engine, int(KILLS_UNTIL * jobs * (number + 0.5) / kills))
            killed[_kill_one(stack)] += 1
        wait_until(lambda: len(caller.accepted) == jobs, "every job to be accepted")
        wait_until(lambda: _ended(engine) == jobs, "every job to end")
        outbox = Outbox(engine, max_attempts=1, pause_s=1, attempt_s=1)
        wait_until(lambda: not outbox.counts()[DeliveryState.PENDING], "every call back")
        seconds = time.monotonic() - begun
        say("all have ended; what is half-written must age before it is swept away")
        stack.stop()
        strays = stack.survivors()
        time.sleep(ABANDONED_S)
        stack.start_again()
        wait_until(stack.is_ready, "the service")
        time.sleep(SETTLE_S)
        wait_until(stack.broker_is_empty, "the broker to be empty")
        findings = examine(stack, engine, caller, receiver, jobs)
        findings.faults.extend(f"process {pid} outlived its stack" for pid in strays)
        engine.dispose()
    finally:
        stack.close()
        receiver.close()
    return Outcome(stack.title, jobs, killed, caller.repeated, receiver.refused, seconds, findings)


def _study(folder: Path, number: int) -> Path:
    files = folder / str(number)
    write_study(simulated_neck(number, shape=SHAPE, spacing_mm=SPACING_MM), files)
    archive = folder / f"{number}.zip"
    pack({path.name: path for path in sorted(files.iterdir())}, archive)
    return archive


def _ended(engine: Engine) -> int:
    return sum(count for state, count in JobRepository(engine).counts().items() if state in FINAL)


def _wait_for_kill(engine: Engine, ended: int) -> None:
    """Wait until so many jobs have ended, or for a while if none does."""
    # Those who start again must come to work in between
    time.sleep(2.0)
    deadline = time.monotonic() + LONGEST_PAUSE_S
    while time.monotonic() < deadline:
        try:
            if _ended(engine) >= ended:
                return
        except SQLAlchemyError:
            pass
        time.sleep(0.2)


def _kill_one(stack: Stack) -> str:
    """Kill something at a moment that nobody has chosen; says what."""
    time.sleep(stack.chance.uniform(0, 2))
    while True:
        name = stack.chance.choice(list(stack.faults))
        if stack.faults[name]():
            say(f"killed {name}")
            return name
        time.sleep(0.5)


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait; the job database may be away at times."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if condition():
                return
        except SQLAlchemyError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.5)


def table(outcomes: list[Outcome], seed: int) -> str:
    """Return the figures as a document."""
    figures: list[tuple[str, Callable[[Outcome], object]]] = [
        ("jobs posted and accepted", lambda o: o.jobs),
        ("kills", lambda o: o.kills.total()),
        ("of them", lambda o: ", ".join(f"{name} {count}×" for name, count in sorted(o.kills.items()))),
        ("requests repeated by callers", lambda o: o.repeated),
        ("stages begun again", lambda o: o.findings.stages_again),
        ("calls back refused by their receiver", lambda o: o.refused),
        ("calls back that came twice", lambda o: o.findings.calls_again),
        ("minutes until all had ended", lambda o: f"{o.seconds / 60:.1f}"),
        (
            "**jobs lost, ended twice, without a whole result, or with anything left behind**",
            lambda o: f"**{len(o.findings.faults)}**",
        ),
    ]

    machine = f"processors: {len(os.sched_getaffinity(0))}, Python {platform.python_version()}"
    lines = [
        "# Nothing is lost when parts are killed",
        "",
        f"`make chaos`, {datetime.now(UTC):%Y-%m-%d}, seed {seed}, {machine}.",
        "",
        *ABOUT,
        "",
        "| | " + " | ".join(outcome.title for outcome in outcomes) + " |",
        "|---|" + "---|" * len(outcomes),
        *(f"| {name} | " + " | ".join(str(of(outcome)) for outcome in outcomes) + " |" for name, of in figures),
        "",
    ]
    found = [fault for outcome in outcomes for fault in outcome.findings.faults]
    return "\n".join([*lines, *(f"- {fault}" for fault in found)]).rstrip() + "\n"


def say(text: str) -> None:
    """Tell whoever watches."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


if __name__ == "__main__":
    sys.exit(main())

"""Loads one API process with polls beside running jobs, then with large uploads, and writes down what it took."""

import argparse
import asyncio
import os
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import httpx
import numpy as np
import uvloop

from model.cohort.neck import simulated_neck
from model.dicom.export import write_study
from service.access.caller import Scope
from service.jobs.repository import JobRepository
from service.jobs.states import State
from service.jobs.tables import connect
from service.wiring import open_keys
from tests.chaos.__main__ import SHAPE, SPACING_MM, say, wait_until
from tests.chaos.stack import Distributed
from tests.load.polls import Poller, Polls
from tests.servers import descendants
from tests.tiny import write_tiny_model

MIB = 2**20
LARGE_SHAPE, LARGE_SPACING_MM = (100, 512, 512), (3.0, 1.0, 1.0)
"""100 slices of 512 × 512 with two bytes each make 52 MB."""
POLLED = 20
"""Jobs whose states are asked for in turn."""
RUNNING = 2
"""Jobs that wait or run at any moment beside the polls."""
WARM_UP = 5
"""Uploads before the memory is measured for the first time: after them libraries are loaded and pools filled."""
ZIP = {"Content-Type": "application/zip"}


@dataclass(frozen=True)
class Memory:
    """Resident memory of the API process and of those that it has started, after so many uploads."""

    uploads: int
    api_bytes: int
    below_bytes: int


@dataclass(frozen=True)
class Busy:
    """Processor time that the API process and this one have taken while it was polled."""

    api_s: float
    asking_s: float


class Feeder:
    """Keeps small jobs running until it is stopped; those of the first posts are there when it has been made."""

    def __init__(self, http: httpx.Client, jobs: JobRepository, study: bytes) -> None:
        self._http = http
        self._jobs = jobs
        self._study = study
        self._stopped = threading.Event()
        self.job_ids = [post(http, study) for _ in range(POLLED)]
        self._before = jobs.counts()[State.SUCCEEDED]
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        while not self._stopped.wait(0.2):
            if sum(count for state, count in self._jobs.counts().items() if not state.is_final) < RUNNING:
                post(self._http, self._study)

    def stop(self) -> int:
        """Stop; return how many jobs have succeeded meanwhile."""
        self._stopped.set()
        self._thread.join()
        return self._jobs.counts()[State.SUCCEEDED] - self._before


def main() -> int:
    """Run both and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--rate", type=float, default=500, help="polls a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--uploads", type=int, default=100, help="0: what was measured earlier stays")
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/results/load.md"))
    given = parser.parse_args()

    load_before = os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="diffdp-load-"))
    say(f"logs and data are in {folder}")
    write_tiny_model(folder / "models")
    small = study(folder / "small", SHAPE, SPACING_MM)
    large = study(folder / "large", LARGE_SHAPE, LARGE_SPACING_MM) if given.uploads else None
    stack = Distributed(folder / "stack", random.Random(0), model_dirs=(folder / "models",), device="cpu")
    try:
        stack.start()
        wait_until(stack.is_ready, "the service")
        keys = open_keys(stack.settings)
        key, _ = keys.create("load", "load", list(Scope))
        keys.close()
        with httpx.Client(base_url=stack.address, headers={"Authorization": f"Bearer {key}"}, timeout=120) as http:
            polls, busy, ended = poll(stack, http, key, small.read_bytes(), given.rate, given.seconds)
            uploads = uploads_table(*upload(stack, http, large, given.uploads)) if large else earlier_uploads(given.out)
        given.out.write_text(polls_table(polls, busy, ended, load_before) + uploads, encoding="utf-8")
        say(f"figures in {given.out}")
    finally:
        stack.close()
    shutil.rmtree(folder)
    return int(set(polls.statuses) != {200})


def study(folder: Path, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Path:
    """Write a simulated patient as an archive that does not compress, as noisy CT hardly does."""
    write_study(simulated_neck(1, shape=shape, spacing_mm=spacing_mm), folder / "files")
    with zipfile.ZipFile(folder / "study.zip", "w", zipfile.ZIP_STORED) as archive:
        for path in sorted((folder / "files").iterdir()):
            archive.write(path, path.name)
    return folder / "study.zip"


def post(http: httpx.Client, body: bytes) -> str:
    """Post a study; return its job."""
    answer = http.post("/v1/jobs", content=body, params={"model": "tiny"}, headers=ZIP)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def poll(
    stack: Distributed, http: httpx.Client, key: str, body: bytes, rate: float, seconds: float
) -> tuple[Polls, Busy, int]:
    """Poll beside running jobs; return how that went, what it took, and how many jobs have succeeded meanwhile."""
    jobs = JobRepository(connect(stack.settings.database))
    feeder = Feeder(http, jobs, body)
    say(f"{rate:g} polls a second for {seconds:g} s")
    paths = [f"/v1/jobs/{job_id}" for job_id in feeder.job_ids]
    before = busy_s(stack.api.pid), busy_s(os.getpid())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        polls = runner.run(Poller(stack.settings.port, paths, key).run(rate, seconds))
    busy = Busy(busy_s(stack.api.pid) - before[0], busy_s(os.getpid()) - before[1])
    ended = feeder.stop()
    jobs.close()
    return polls, busy, ended


def upload(stack: Distributed, http: httpx.Client, large: Path, uploads: int) -> tuple[int, list[float], list[Memory]]:
    """Post large studies one after the other and delete each; return their size, times, and memory along the way."""
    for worker in stack.workers:
        worker.stop()
    say(f"{uploads} uploads of {large.stat().st_size / 1e6:.0f} MB")
    body = large.read_bytes()
    seconds, memory = [], []
    for number in range(-WARM_UP, uploads + 1):
        if number >= 0 and number % max(uploads // 10, 1) == 0:
            memory.append(measured(stack.api.pid, number))
        begun = time.perf_counter()
        job_id = post(http, body)
        seconds.append(time.perf_counter() - begun)
        http.delete(f"/v1/jobs/{job_id}").raise_for_status()
    return len(body), seconds, memory


def measured(pid: int, uploads: int) -> Memory:
    """Return the memory that processes hold now."""
    return Memory(uploads, resident_bytes(pid), sum(map(resident_bytes, descendants(pid))))


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds, 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def busy_s(pid: int) -> float:
    """Return the processor time that a process has taken, without its children's."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def polls_table(polls: Polls, busy: Busy, ended: int, load_before: float) -> str:
    """Return the beginning of the document, with the figures of the polls; the load before is that of others."""
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(polls.statuses.items(), key=str))
    lines = [
        "# One API process under load",
        "",
        f"`make load` with {len(os.sched_getaffinity(0))} processors, which the API shares with two workers, Redis,",
        f"PostgreSQL and the program that asks; Python {platform.python_version()}.",
        "",
        "## Polls beside running jobs",
        "",
        f"{today()}. `GET /v1/jobs/{{id}}` with a key of the database, of {POLLED} jobs in turn, while",
        "small studies are predicted by the smallest network. A poll's time begins when it is due, whether or not a",
        "connection is free.",
        "",
        "| | |",
        "|---|---|",
        f"| asked | {polls.asked} in {polls.lasted_s:.1f} s, {polls.asked / polls.lasted_s:.0f} a second |",
        f"| answered | {statuses} |",
        *(f"| {name} | {polls.percentile_ms(percent):.1f} ms |" for name, percent in PERCENTILES),
        f"| jobs that succeeded meanwhile | {ended} |",
        f"| processor time of the API | {1000 * busy.api_s / polls.asked:.2f} ms a poll |",
        f"| of the program that asks | {1000 * busy.asking_s / polls.asked:.2f} ms a poll |",
        f"| load of the machine before, by other programs | {load_before:.1f} |",
        "",
    ]
    return "\n".join(lines) + "\n"


def uploads_table(body_bytes: int, seconds: Sequence[float], memory: Sequence[Memory]) -> str:
    """Return the end of the document, with the figures of the uploads."""
    growth = memory[-1].api_bytes - memory[0].api_bytes
    slope = np.polyfit([m.uploads for m in memory], [m.api_bytes for m in memory], 1)[0] if len(memory) > 2 else 0.0
    lines = [
        UPLOADS,
        "",
        f"{today()}. A study of {body_bytes / 1e6:.0f} MB is posted, examined, accepted and deleted,",
        f"again and again; half of the uploads took less than {median(seconds):.1f} s. Memory is what is resident: of",
        "the API, and of the process that examinations are forked from.",
        "",
        "| uploads | API, MiB | below it, MiB |",
        "|---|---|---|",
        *(f"| {m.uploads} | {m.api_bytes / MIB:.1f} | {m.below_bytes / MIB:.1f} |" for m in memory),
        "",
        f"From the first to the last measurement the API has grown by {growth / MIB:.1f} MiB; a line through all of",
        f"them rises by {slope / 1024:.1f} KiB an upload.",
    ]
    return "\n".join(lines) + "\n"


def earlier_uploads(document: Path) -> str:
    """Return the end of a document that is there."""
    _, heading, figures = document.read_text(encoding="utf-8").partition(UPLOADS)
    return heading + figures


UPLOADS = "## Large uploads"
PERCENTILES = (("half within", 50), ("95 of 100 within", 95), ("99 of 100 within", 99), ("all within", 100))


if __name__ == "__main__":
    sys.exit(main())

"""Sends mutated studies and judges what comes of them.

Every answer must be a job or a problem that docs/refusals.md documents; nothing may stay of what was refused, and
nothing of the patient may show anywhere.
"""

import json
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from random import Random

from service.jobs.states import Stage
from tests.fuzz.api import ROOT, Answer, Api, Dropped
from tests.fuzz.mutation import Bases, Mutation
from tests.fuzz.posts import ZIP, Post, archive
from tests.fuzz.stages import Stages
from tests.fuzz.studies import CANARY

LONGEST_S = 60.0
"""Of one post, on a machine that may be busy; the examination itself may take twice as long."""
MOST_GROWTH_MIB = 96
"""Of the API's resident memory beyond what it takes once it has answered some posts."""
WARM_UP = 30
"""Posts after which the API's memory is taken to be what it needs."""
MOST_OPEN_FILES = 16
"""More of them than at the start."""
HEALTHY_EVERY = 25
"""Beside every such post a valid study is posted at the same time, and must be accepted."""
SETTLE_S = 5.0
"""Time after which nothing may be left."""
WHOLE = 0.15
"""Share of accepted jobs that go through all stages."""


@dataclass
class Outcome:
    """What came of one post: the answer, the end of its job if it became one, and what must not have been."""

    mutation: Mutation
    label: str = "none"
    seconds: float = 0.0
    job: str = ""
    violations: list[str] = field(default_factory=list)


class Fuzzer:
    """Makes posts, sends them and judges what comes of them."""

    def __init__(self, api: Api, stages: Stages, bases: Bases, seed: int, mutations: list[Mutation]) -> None:
        self._api = api
        self._stages = stages
        self._bases = bases
        self._seed = seed
        self._mutations = Random(seed).sample(mutations, len(mutations))
        self._codes = documented_codes((ROOT / "docs" / "refusals.md").read_text(encoding="utf-8"))
        self._healthy = Post(archive(bases["plain"]), ZIP).encode(api.host)
        api.new_log_lines()
        # A process that waits for the next study is no leftover
        self._post_healthy([])
        self._processes = api.processes()
        self._open_files = api.open_files()
        self.memory_mib = [api.resident_mib()]

    def attempt(self, index: int) -> tuple[Outcome, bytes]:
        """Make a post, send it and look at everything that must be so afterwards; mutations take turns."""
        mutation = self._mutations[index % len(self._mutations)]
        post = mutation.make(self._bases, Random(f"{self._seed}/{index}"))
        request = post.encode(self._api.host)
        outcome = Outcome(mutation)
        beside = threading.Thread(target=self._post_healthy, args=(outcome.violations,))
        if index % HEALTHY_EVERY == 0:
            beside.start()
        begun = time.monotonic()
        answer = self._send(request, post, outcome)
        outcome.seconds = time.monotonic() - begun
        if outcome.seconds > LONGEST_S:
            outcome.violations.append(f"took {outcome.seconds:.1f} s")
        if beside.ident is not None:
            beside.join()
        if answer is not None and answer.status == 202:
            is_whole = Random(f"{self._seed}/{index}/stages").random() < WHOLE
            self._follow(answer, tuple(Stage) if is_whole else (Stage.PREPARE,), outcome)
        outcome.violations += self._aftermath()
        return outcome, request

    def _send(self, request: bytes, post: Post, outcome: Outcome) -> Answer | None:
        """Send a request and check the answer."""
        try:
            answer = self._api.send(request, leaves=post.leaves)
        except Dropped as error:
            outcome.label = "caller left" if post.leaves else "none"
            if not post.leaves and not post.breaks_http:
                outcome.violations.append(f"no answer: {error}")
            return None
        outcome.label = f"{answer.status}"
        outcome.violations += canaries(answer, "the answer")
        if post.breaks_http and answer.status in {400, 431} and not answer.is_problem:
            outcome.label += " HTTP"
        elif answer.is_problem:
            problem = answer.json()
            outcome.label += f" {problem['code']}"
            if self._codes.get(problem["code"]) != answer.status or problem["status"] != answer.status:
                outcome.violations.append(f"{outcome.label} is not documented: {problem['detail']}")
        elif answer.status != 202:
            outcome.violations.append(f"{answer.status} is no problem: {answer.body[:200]!r}")
        return answer

    def _follow(self, posted: Answer, stages: tuple[Stage, ...], outcome: Outcome) -> None:
        """Do stages of a job, look at it as its owner would, and delete it."""
        link = posted.json()["links"]["self"]
        try:
            # A stage warns when it would be tried again, as after any fault of the machine
            outcome.violations += bad_lines(self._stages.run(stages), {"error", "warning"})
        except (BrokenProcessPool, TimeoutError) as error:
            outcome.violations.append(f"the process of the stages: {type(error).__name__}")
        answer = self._api.call("GET", link)
        outcome.violations += canaries(answer, "the job")
        job = answer.json()
        outcome.job, error = job["state"], job["error"]
        if outcome.job == "failed":
            outcome.job = error["code"]
            if self._codes.get(error["code"]) != 422:
                outcome.violations.append(f"the job failed in {error['stage']} as {error['code']}: {error['detail']}")
        elif outcome.job != ("predicting" if stages == (Stage.PREPARE,) else "succeeded"):
            outcome.violations.append(f"the job is {outcome.job}")
        for name in ("dose", "plan", "report", "archive", "viewer") if outcome.job == "succeeded" else ():
            if (status := self._api.call("GET", job["links"][name]).status) != 200:
                outcome.violations.append(f"{name} is answered with {status}")
        if (status := self._api.call("DELETE", link).status) != 204:
            outcome.violations.append(f"the job cannot be deleted: {status}")

    def _post_healthy(self, violations: list[str]) -> None:
        try:
            answer = self._api.send(self._healthy)
        except Dropped as error:
            violations.append(f"a valid study got no answer: {error}")
            return
        if answer.status != 202:
            violations.append(f"a valid study was answered with {answer.status}: {answer.body[:300]!r}")
        elif self._api.call("DELETE", answer.json()["links"]["self"]).status != 204:
            violations.append("the job of a valid study cannot be deleted")

    def _aftermath(self) -> Iterator[str]:
        """What must not be so once an answer was given and its job, if there is one, deleted."""
        if not self._api.is_alive():
            yield "the API has ended"
            return
        deadline = time.monotonic() + SETTLE_S
        while (left := self._left_behind()) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield from left
        self.memory_mib.append(self._api.resident_mib())
        growth = self.memory_mib[-1] - self.memory_mib[min(WARM_UP, len(self.memory_mib) - 1)]
        if growth > MOST_GROWTH_MIB:
            yield f"the API's memory has grown by {growth} MiB"
        yield from bad_lines(self._api.new_log_lines(), {"error"})

    def _left_behind(self) -> list[str]:
        left = [f"left behind: {path}" for path in self._api.leftovers()]
        if jobs := self._api.jobs():
            left.append(f"{jobs} jobs are left in the database")
        if (processes := self._api.processes()) > self._processes:
            left.append(f"{processes} processes still run")
        if (open_files := self._api.open_files()) > self._open_files + MOST_OPEN_FILES:
            left.append(f"{open_files} files are open")
        return left


def documented_codes(refusals: str) -> Mapping[str, int]:
    """Code of every refusal → its status, from the document."""
    codes: dict[str, int] = {}
    for line in refusals.splitlines():
        if match := re.match(r"\| `([\w-]+)` \|", line):
            codes[match[1]] = 422
        elif match := re.match(r"\| (4\d\d) \| (.+?) \|", line):
            codes |= dict.fromkeys(re.findall(r"`([\w-]+)`", match[2]), int(match[1]))
    return codes


def canaries(answer: Answer, where: str) -> Iterator[str]:
    """Say where the patient shows."""
    shown = f"{answer.headers}".lower() + answer.body.decode("utf-8", "replace").lower()
    if CANARY.lower() in shown:
        place = shown.index(CANARY.lower())
        yield f"the patient is in {where}: {shown[max(0, place - 100) : place + 100]!r}"


def bad_lines(lines: Iterable[str], levels: set[str]) -> Iterator[str]:
    """Return lines of a log that name the patient, are of these levels, or are not of the service."""
    for line in lines:
        if CANARY.lower() in line.lower() or not line.startswith("{") or json.loads(line)["level"] in levels:
            yield f"logged: {line}"

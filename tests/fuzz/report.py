"""What came of many posts, as Markdown."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from tests.fuzz.fuzzer import MOST_GROWTH_MIB, WARM_UP, Outcome

HEADING = """# Mutated studies

Made by `{command}`. Every post is a valid study, simulated or of a real system and trimmed, with
something wrong in it. It must be answered with a job or with a refusal that [refusals.md](../refusals.md) documents.
Anything else is a violation, and so are an answer after more than a minute, memory that grows, files, jobs or processes
that stay, a line in the log that tells of an error, and the patient's name or identifier in an answer, a log or the
database. Accepted jobs go through the first stage, some through all stages but for the network, and must get on or fail
with a documented code.

"""


def facts(outcomes: Sequence[Outcome], studies: Sequence[str], seed: int, seconds: float) -> str:
    """Say how many posts there were, how long they took and how many of them ended as none may."""
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    violated = sum(bool(outcome.violations) for outcome in outcomes)
    return (
        f"{len(outcomes)} posts of {len({o.mutation.name for o in outcomes})} mutations of {len(studies)} studies "
        f"({', '.join(studies)}), seed {seed}, in {seconds:.0f} s at a load average of {os.getloadavg()[2]:.0f} on "
        f"{os.cpu_count()} cores. The slowest answer took {slowest.seconds:.1f} s ({slowest.mutation.name}). "
        f"**Violations: {violated}.**"
    )


def memory(memory_mib: Sequence[int], peak_mib: int) -> str:
    """Say what memory the API took."""
    warm = memory_mib[min(WARM_UP, len(memory_mib) - 1)]
    return (
        f"Resident memory of the API: {memory_mib[0]} MiB at the start, {warm} MiB after {WARM_UP} posts, "
        f"{memory_mib[-1]} MiB at the end, {peak_mib} MiB at its peak; {MOST_GROWTH_MIB} MiB of growth are allowed."
    )


def tables(outcomes: Sequence[Outcome]) -> str:
    """Count by level and answer, by the end of jobs, and by mutation."""
    groups = list(dict.fromkeys(outcome.mutation.group for outcome in outcomes))
    labels = Counter(outcome.label for outcome in outcomes)
    counts = Counter((outcome.label, outcome.mutation.group) for outcome in outcomes)
    answers = [
        (label, *(counts[label, group] or "" for group in groups), count) for label, count in labels.most_common()
    ]
    totals = Counter(outcome.mutation.group for outcome in outcomes)
    jobs = Counter(outcome.job for outcome in outcomes if outcome.job)
    by_mutation: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in sorted(outcomes, key=lambda o: (groups.index(o.mutation.group), o.mutation.name)):
        by_mutation[outcome.mutation.name].append(outcome)
    return "\n\n".join(
        (
            _table(("answer", *groups, "all"), [*answers, ("", *(totals[g] for g in groups), len(outcomes))]),
            _table(("accepted jobs after the stages that were run", "jobs"), jobs.most_common()),
            _table(
                ("mutation", "level", "posts", "accepted", "refused", "failed later", "slowest, s"),
                [_row(name, of_one) for name, of_one in by_mutation.items()],
            ),
        )
    )


def _row(name: str, outcomes: Sequence[Outcome]) -> tuple[object, ...]:
    refused = Counter(outcome.label for outcome in outcomes if outcome.label != "202")
    failed = Counter(o.job for o in outcomes if o.job not in {"", "predicting", "succeeded"})
    slowest = max(outcome.seconds for outcome in outcomes)
    accepted = len(outcomes) - refused.total()
    group = outcomes[0].mutation.group
    return name, group, len(outcomes), accepted, _listed(refused), _listed(failed), f"{slowest:.1f}"


def _listed(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{label} {count}" for label, count in Counter(counter).most_common())


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)

"""Post mutated studies to the real API: ``python -m tests.fuzz --count 2000 --seed 1``.

Each post depends on nothing but the seed, its index and the valid studies, so that one can be made again alone with
``--only``. What fails is kept as a folder with the request and what was wrong with it.
"""

import argparse
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz import archive_mutations, byte_mutations, element_mutations, object_mutations, request_mutations
from tests.fuzz.api import ROOT, Api
from tests.fuzz.fuzzer import Fuzzer, Outcome
from tests.fuzz.mutation import MUTATIONS
from tests.fuzz.report import HEADING, facts, memory, tables
from tests.fuzz.stages import Stages
from tests.fuzz.studies import CANARY, real_studies, simulated_studies

LEVELS = (byte_mutations, element_mutations, object_mutations, archive_mutations, request_mutations)
"""Each has added to the list of mutations."""


def main() -> int:
    """Run; 1 if anything was not as it must be."""
    parser = argparse.ArgumentParser(description="Post mutated studies to the real API.")
    parser.add_argument("--count", type=int, default=2000, help="posts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="*", help="indices of single posts")
    parser.add_argument("--mutation", default="", help="only mutations whose name holds this")
    parser.add_argument("--simulated", action="store_true", help="leave out studies of real systems")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="where studies of real systems are")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="folder for what fails")
    parser.add_argument("--report", type=Path, help="file for the tables")
    options = parser.parse_args()

    mutations = [mutation for mutation in MUTATIONS if options.mutation in mutation.name]
    bases = simulated_studies() | ({} if options.simulated else real_studies(options.shared))
    # However this program is stopped, what it has started must end with it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="fuzz-")))
        api = stack.enter_context(Api(folder))
        fuzzer = Fuzzer(api, stack.enter_context(Stages(api.settings)), bases, options.seed, mutations)
        for index in options.only or range(options.count):
            outcome, request = fuzzer.attempt(index)
            outcomes.append(outcome)
            if outcome.violations:
                keep(options.keep / f"{options.seed}-{index}", request, outcome)
                say(f"{index} {outcome.mutation.name}: {outcome.label} {outcome.job} {outcome.seconds:.2f} s")
                say("\n".join(f"    {violation[:600]}" for violation in outcome.violations))
            if not api.is_alive():
                break
        is_in_database = CANARY.encode() in api.database()
        used = memory(fuzzer.memory_mib, api.resident_mib("VmHWM") if api.is_alive() else 0)
    count = facts(outcomes, tuple(bases), options.seed, time.monotonic() - begun)
    database = (
        "**The patient is in the job database.**" if is_in_database else "The patient is not in the job database."
    )
    result = f"{count}\n\n{used} {database}\n\n{tables(outcomes)}"
    say(result)
    if options.report is not None:
        command = f"python -m tests.fuzz --count {options.count} --seed {options.seed}"
        options.report.write_text(f"{HEADING.format(command=command)}{result}\n", encoding="utf-8")
    return int(is_in_database or any(outcome.violations for outcome in outcomes))


def keep(folder: Path, request: bytes, outcome: Outcome) -> None:
    """Keep what failed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "request.http").write_bytes(request)
    (folder / "violations.txt").write_text("\n".join([outcome.mutation.name, *outcome.violations]), encoding="utf-8")


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""A few of the mutated studies that ``make fuzz`` posts by the thousand."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_mutated_studies_are_answered_as_documented(tmp_path: Path) -> None:
    options = ["--count", "30", "--simulated", "--keep", str(tmp_path)]
    command = [sys.executable, "-m", "tests.fuzz", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr

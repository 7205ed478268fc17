"""Pools of processes that leave nobody behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

POOL = """
import os, time
from model.processes import process_pool

if __name__ == "__main__":
    pool = process_pool(1)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""

PATIENCE_S = 30


def test_processes_of_a_pool_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(POOL, encoding="utf-8")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        os.kill(int(parent.stdout.readline()), 0)
        parent.send_signal(signal.SIGKILL)
        parent.communicate(timeout=PATIENCE_S)  # as long as somebody holds its output

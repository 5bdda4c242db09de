"""No child process of a benchmark goes on when its block has ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stylebench.bench.suites.child_process import child_process

#: A child that says so, with a child of its own that no signal but SIGKILL ends.
FAMILY = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", \
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"])
print(grandchild.pid, flush=True)
time.sleep(60)
"""


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_neither_a_child_nor_its_children_outlive_the_block():
    found = []

    def interrupted():
        command = [sys.executable, "-c", FAMILY]
        with child_process(command, stdout=subprocess.PIPE, text=True) as process:
            found.extend([process, int(process.stdout.readline())])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    process, grandchild = found
    assert process.returncode == -signal.SIGTERM
    deadline = time.monotonic() + 10
    while runs(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not runs(grandchild)

"""SIGTERM and SIGHUP end a benchmark as Ctrl-C does, and nothing of it goes on or stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stylebench.bench.suites.termination import (
    Terminated,
    child_process,
    signal_of,
    terminable,
)

#: A child that says so, with a child of its own that no signal but SIGKILL ends.
FAMILY = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", \
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"])
print(grandchild.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_each_is_an_interrupt_that_names_its_signal(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as stop, terminable():
        signal.raise_signal(number)
    assert isinstance(stop.value, Terminated)
    assert signal_of(stop.value) == number
    assert signal.getsignal(number) == before


def test_a_second_signal_does_not_disturb_the_cleaning_up():
    cleaned = []

    def interrupted():
        with terminable():
            try:
                signal.raise_signal(signal.SIGHUP)
            finally:
                signal.raise_signal(signal.SIGTERM)
                cleaned.append("everything")

    with pytest.raises(Terminated):
        interrupted()
    assert cleaned == ["everything"]


def test_what_is_ignored_already_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_is_sigint():
    assert signal_of(KeyboardInterrupt()) == signal.SIGINT


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

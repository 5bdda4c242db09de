"""SIGTERM and SIGHUP end a benchmark as Ctrl-C does, and nothing of it goes on or stays behind."""

import os
import signal
import subprocess
import sys
import time

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
        os.kill(os.getpid(), number)
        time.sleep(10)
    assert isinstance(stop.value, Terminated)
    assert signal_of(stop.value) == number
    assert signal.getsignal(number) == before


def test_a_second_signal_does_not_disturb_the_cleaning_up():
    cleaned = False
    with pytest.raises(Terminated), terminable():
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned = True
    assert cleaned


def test_what_is_ignored_already_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_is_sigint():
    assert signal_of(KeyboardInterrupt()) == signal.SIGINT


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as status:
        return status.read().split()[2] != "Z"


@pytest.mark.skipif(
    not os.path.exists("/proc/self/stat"), reason="processes are looked up in /proc"
)
def test_neither_a_child_nor_its_children_outlive_the_block():
    command = [sys.executable, "-c", FAMILY]
    with (
        pytest.raises(KeyboardInterrupt),
        child_process(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        grandchild = int(process.stdout.readline())
        assert runs(grandchild)
        raise KeyboardInterrupt
    assert process.returncode == -signal.SIGTERM
    deadline = time.monotonic() + 10
    while runs(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not runs(grandchild)

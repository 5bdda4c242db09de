"""Signals one by one: which raise, which are noted, which end the process at once."""

import signal
import subprocess
import sys

import pytest

from stylebench import signals


@pytest.fixture
def fresh(monkeypatch):
    """No signal has come yet."""
    monkeypatch.setattr(signals, "_state", signals._State())


def come(number):
    try:
        signals._on_signal(number, None)
    except signals.Stop:
        return "stops"
    return "noted"


def test_signals_one_after_another(fresh):
    assert [come(15), come(2), come(2)] == ["stops", "noted", "stops"]
    signals.hold()
    assert [come(2), come(2)] == ["noted", "stops"]
    assert signals.exit_code() == 143
    with pytest.raises(signals.Stop) as stop:
        signals.check()
    assert signals.number_of(stop.value) == signal.SIGTERM


def test_an_interrupt_of_a_run_is_of_the_signal_that_came(fresh):
    assert come(signal.SIGHUP) == "stops"
    assert signals.number_of(KeyboardInterrupt("with the best image")) == signal.SIGHUP


def test_ctrl_c_of_python_itself_is_sigint(fresh):
    assert signals.number_of(KeyboardInterrupt()) == signal.SIGINT


STARTS = """
import os, signal, sys
from stylebench import signals
signals.install("nothing done")
if sys.argv[1] == "imports":
    signals.begin()
    with signals.importing():
        signal.raise_signal(signal.SIGTERM)
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize("when", ["starts", "imports"])
def test_a_process_that_starts_or_imports_ends_at_once(when):
    done = subprocess.run([sys.executable, "-c", STARTS, when], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "stylebench: nothing done\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_block_is_stopped_and_leaves_handlers_and_state_as_they_were(number):
    before, state = signal.getsignal(number), signals._state
    with pytest.raises(KeyboardInterrupt) as stop, signals.stoppable():
        signal.raise_signal(number)
    assert signals.number_of(stop.value) == number
    assert signal.getsignal(number) == before
    assert signals._state is state
    assert not signals.received()


def test_a_second_signal_does_not_disturb_the_cleaning_up():
    cleaned = []

    def interrupted():
        with signals.stoppable():
            try:
                signal.raise_signal(signal.SIGHUP)
            finally:
                signal.raise_signal(signal.SIGTERM)
                cleaned.append("everything")

    with pytest.raises(signals.Stop):
        interrupted()
    assert cleaned == ["everything"]


def test_handlers_are_taken_over_and_given_back(fresh):
    before = {number: signal.getsignal(number) for number in signals._numbers()}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals.install("nothing done")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signals._on_signal
        signals.release()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

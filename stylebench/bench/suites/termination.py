"""How a benchmark ends early: SIGTERM and SIGHUP as Ctrl-C, and no child process outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_MERCY = 10.0  # s that a child gets to end after SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP; everything that Ctrl-C cleans up is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def signal_of(stop: KeyboardInterrupt) -> int:
    """The number of the signal that ``stop`` stands for."""
    return int(getattr(stop, "number", signal.SIGINT))


@contextmanager
def terminable() -> Iterator[None]:
    """Raise ``Terminated`` in the block at the first SIGTERM or SIGHUP; later ones are ignored.

    A signal that is ignored already, as SIGHUP under ``nohup``, stays so. Outside of the main
    thread, which alone may handle signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def handle(number: int, _: FrameType | None) -> None:
        for other in handled:
            signal.signal(other, signal.SIG_IGN)
        raise Terminated(number)

    for number in handled:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number] or signal.SIG_DFL)


@contextmanager
def child_process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process in a group of its own, which ends with the block at the latest.

    Args:
        command: its command line.
        options: of ``subprocess.Popen``.
    """
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            end_group(process, signal.SIGTERM, _MERCY)


def end_group(process: subprocess.Popen[Any], number: int, mercy: float) -> None:
    """Send a signal to the group of ``process`` if it runs; kill what is left after ``mercy`` s."""
    if process.poll() is None:
        _signal_group(process, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=mercy)
    _signal_group(process, signal.SIGKILL)  # also what the process itself has left behind
    process.wait()


def _signal_group(process: subprocess.Popen[Any], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

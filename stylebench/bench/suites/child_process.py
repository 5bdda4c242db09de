"""Child processes of a benchmark, none of which outlives it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

_MERCY = 10.0  # s that a child gets to end after SIGTERM
_DEATH_SIGNAL = 1  # of prctl, in linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork


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


def end_with_parent() -> None:
    """Have SIGTERM sent to this process once its parent is gone: one that is killed ends no child.

    For a child between fork and exec; on Linux alone.
    """
    if _LIBC is not None:
        _LIBC.prctl(_DEATH_SIGNAL, signal.SIGTERM)


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

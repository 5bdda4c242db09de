"""SIGINT, SIGTERM and SIGHUP: each ends a run as Ctrl-C does, and the best image is saved.

A signal raises ``Stop``, a ``KeyboardInterrupt``. While that unwinds, and from ``hold`` on, when a
picture is to be saved, one more signal is only taken note of; the next one breaks off. A signal
during imports ends the process: a library's initialization could lose an exception, and there is
nothing to save.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows lacks the last
_NOTHING_DONE = b"stylebench: interrupted before the first iteration\n"
_BASE = 128  # of the exit codes of signals


class Stop(KeyboardInterrupt):
    """A signal that ends the process."""


@dataclass
class _State:
    """The signals of this process.

    Attributes:
        received: their numbers, in order.
        spared: so many more do not raise.
        importing: blocks of imports that have begun and not ended.
    """

    received: list[int] = field(default_factory=list)
    spared: int = 0
    importing: int = 0


_state = _State()


def install() -> None:
    """Take the signals over, except those that the caller has the process ignore (``nohup``)."""
    for number in _numbers():
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _on_signal)


def release() -> None:
    """Let the next signal end the process at once: there is nothing left to save."""
    for number in _numbers():
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def importing() -> Iterator[None]:
    """A block of imports, which a signal may end at once: nothing has been done yet."""
    _state.importing += 1
    try:
        yield
    finally:
        _state.importing -= 1


def hold() -> None:
    """From now on the first signal is only taken note of: a picture is being saved."""
    _state.spared = 1


def check() -> None:
    """Raise ``Stop`` if a signal has come; for one that a library's callback has swallowed."""
    if _state.received:
        raise Stop


def received() -> bool:
    """Whether a signal has come."""
    return bool(_state.received)


def exit_code() -> int:
    """128 and the number of the first signal; that of Ctrl-C where none was seen."""
    return _BASE + (_state.received[0] if _state.received else signal.SIGINT)


def _numbers() -> list[signal.Signals]:
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


def _on_signal(number: int, _: object) -> None:
    _state.received.append(number)
    if _state.importing:
        with suppress(OSError):
            os.write(2, _NOTHING_DONE)
        os._exit(exit_code())
    if _state.spared:
        _state.spared -= 1
        return
    _state.spared = 1
    raise Stop

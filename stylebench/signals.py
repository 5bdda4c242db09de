"""SIGINT, SIGTERM and SIGHUP: each ends a process as Ctrl-C does, once it has kept what it did.

While a process starts, and while it imports, a signal ends it at once with one line: nothing has
been done yet, and a library's initialization could lose an exception. From ``begin`` on a signal
raises ``Stop``, a ``KeyboardInterrupt``. While that unwinds, and from ``hold`` on, when a picture
is to be saved, one more signal is only taken note of; the next one breaks off.

Two modules of Python's core are all that is imported: until ``install`` a signal kills silently.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows lacks the last
_BASE = 128  # of the exit codes of signals


class Stop(KeyboardInterrupt):
    """A signal that ends the process.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _State:
    """The signals of this process.

    Attributes:
        received: their numbers, in order.
        spared: so many more do not raise.
        at_once: reasons to end the process at once: that it starts, and blocks of imports.
        line: that it ends with then.
    """

    def __init__(self, at_once: int = 0, line: str = "") -> None:
        self.received: list[int] = []
        self.spared = 0
        self.at_once = at_once
        self.line = line


_state = _State()


def install(line: str) -> None:
    """Take the signals over, except those that the caller has the process ignore (``nohup``).

    Args:
        line: printed on stderr by a signal that comes before ``begin``.
    """
    global _state
    _state = _State(at_once=1, line=line)
    for number in _numbers():
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _on_signal)


def begin() -> None:
    """From now on a signal raises ``Stop``: there may be something to save or to clean up."""
    _state.at_once = 0


def release() -> None:
    """Let the next signal end the process at once: there is nothing left to save."""
    for number in _numbers():
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def stoppable() -> Iterator[None]:
    """A block in which signals raise ``Stop``; the handlers before it come back after it."""
    global _state
    state, before = _state, {number: signal.getsignal(number) for number in _numbers()}
    install("interrupted")
    begin()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state = state


@contextmanager
def importing() -> Iterator[None]:
    """A block of imports, which a signal may end at once: nothing has been done yet."""
    _state.at_once += 1
    try:
        yield
    finally:
        _state.at_once -= 1


def hold(count: int = 1) -> None:
    """From now on the first signals are only taken note of: a picture is being saved."""
    _state.spared = count


def go_on() -> None:
    """End what ``hold`` began: raise ``Stop`` if a signal came meanwhile, as later ones will."""
    _state.spared = 0
    check()


def check() -> None:
    """Raise ``Stop`` if a signal has come; for one that a library's callback has swallowed."""
    if _state.received:
        raise Stop(_state.received[0])


def received() -> bool:
    """Whether a signal has come."""
    return bool(_state.received)


def exit_code() -> int:
    """128 and the number of the first signal; that of Ctrl-C where none was seen."""
    return _BASE + (_state.received[0] if _state.received else signal.SIGINT)


def number_of(stop: KeyboardInterrupt) -> int:
    """The number of the signal behind ``stop``, which a run may have replaced by one of its own.

    SIGINT's where Python itself raised it.
    """
    return int(getattr(stop, "number", exit_code() - _BASE))


def _numbers() -> list[signal.Signals]:
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


def _on_signal(number: int, _: object) -> None:
    _state.received.append(number)
    if _state.at_once:
        with suppress(OSError):
            os.write(2, f"stylebench: {_state.line}\n".encode())
        os._exit(exit_code())
    if _state.spared:
        _state.spared -= 1
        return
    _state.spared = 1
    raise Stop(number)

"""Standard output and error: whatever becomes of them, the run goes on."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from stylebench.console import ascii_only


class _Unbroken(io.FileIO):
    """A descriptor whose reader may go away, or whose disk may fill: the text is lost, no more."""

    def write(self, data: Any, /) -> int:
        written = None
        with suppress(OSError):
            written = super().write(data)
        return len(data) if written is None else written


_closed: set[int] = set()  # standard descriptors that this process was started without


def was_closed(descriptor: int) -> bool:
    """Whether the process was started without a standard ``descriptor``, as by ``>&-``."""
    return descriptor in _closed


def install() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` streams that never fail, and that are there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _closed.add(descriptor)
            os.open(os.devnull, os.O_RDWR)  # or the next file that is opened would take its place
    sys.stdout, sys.stderr = _unbroken(1, sys.stdout), _unbroken(2, sys.stderr)
    if ascii_only(sys.stdout):
        os.environ.setdefault("TYPER_USE_RICH", "0")  # whose help has frames


def _unbroken(descriptor: int, stream: TextIO | None) -> TextIO:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    lines = getattr(stream, "line_buffering", False)
    raw = _Unbroken(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=lines
    )

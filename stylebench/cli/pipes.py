"""Pictures through pipes: ``-`` is standard input as a content or style, standard output as ``-o``.

Standard output then holds the picture, as PNG, and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stylebench.cli import streams
from stylebench.files.scratch import scratch_folder
from stylebench.image.decode import read_stream
from stylebench.image.load import Picture, load_bytes
from stylebench.transfer.result import Result

PIPE = Path("-")
STDIN_FILE = Path("/dev/stdin")  # by which a file behind standard input is known again
STDOUT_NAME = Path("stdout")  # for messages, and for the name of a picture that nobody took
_INPUT, _OUTPUT = "standard input", "standard output"


def read_stdin() -> Picture:
    """The picture on standard input, whatever its format.

    Raises:
        ValueError: a terminal is there, or no picture.
    """
    if sys.stdin is None or sys.stdin.isatty():
        reason = "is closed" if sys.stdin is None else "is a terminal"
        raise ValueError(
            f"- is {_INPUT}, which {reason}: expected a picture from a file or a program, as "
            "'stylebench stylize - painting.jpg < photo.jpg'"
        )
    return load_bytes(read_stream(sys.stdin.buffer, _INPUT), _INPUT)


def check_stdout() -> None:
    """Refuse a standard output that a picture is not for.

    Raises:
        ValueError: it is a terminal, or was closed.
    """
    reason = "is a terminal" if os.isatty(1) else "is closed" if streams.was_closed(1) else None
    if reason:
        raise ValueError(
            f"-o - is {_OUTPUT}, which {reason}: expected a file or a program behind it, as "
            "'stylebench stylize photo.jpg painting.jpg -o - > out.png'"
        )


@contextmanager
def stdout_for_picture(wanted: bool) -> Iterator[int | None]:
    """Standard output's descriptor, for the picture alone: all else goes to standard error.

    Libraries print where they like.

    Args:
        wanted: the picture goes there; else nothing changes, and there is no descriptor.
    """
    if not wanted:
        yield None
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield kept
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def write_png(result: Result, bit_depth: int, descriptor: int) -> None:
    """Write a result's picture, once all of it is encoded.

    Raises:
        OSError: nobody reads it any more, or a disk is full.
    """
    with scratch_folder("stylebench-stdout-") as folder:
        data = result.save(folder / "picture.png", bit_depth).read_bytes()
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]

"""The end of a run: its picture is saved where it was asked for, or else where it can be."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from stylebench.cli.errors import tell

_LONGEST_STEM = 200  # bytes, which leaves room for the rest of a name


def write_or_rescue(
    write: Callable[[Path], object], path: Path, what: str, suffix: str = ".png"
) -> Path:
    """Write a file at ``path``, or under a new name beside it, or in the temporary folder.

    One line on stderr says where it is, if it is elsewhere.

    Args:
        write: writes the file, whole or not at all.
        path: the place that was asked for.
        what: the file is, for the line: ``the picture``.
        suffix: of a file elsewhere.

    Returns:
        The place where it is.

    Raises:
        Exception: the first reason, where no place would do.
    """
    try:
        write(path)
    except Exception as error:  # of the disk, of the format, of memory: all but a signal
        reason = error
    else:
        return path
    for folder in (path.parent, Path(tempfile.gettempdir())):
        place = next(place for place in _places(folder, path, suffix) if not os.path.lexists(place))
        try:
            write(place)
        except Exception:  # the next folder may do
            continue
        tell(f"error: {path}: cannot be written ({reason}); {what} is in {place}")
        return place
    raise reason


def _places(folder: Path, path: Path, suffix: str) -> Iterator[Path]:
    """New names in ``folder`` that tell of ``path``."""
    stem = os.fsdecode(os.fsencode(path.stem)[:_LONGEST_STEM])
    yield folder / f"{stem}-rescued{suffix}"
    yield from (folder / f"{stem}-rescued-{number}{suffix}" for number in count(2))

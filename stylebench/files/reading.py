"""Input files, read whole: ordinary ones alone, of a size that is known before they are read."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from stylebench.files.paths import FileError, special_kind

_MIB = 2**20


def read_file(path: Path, limit: int, expected: str) -> bytes:
    """The bytes of an ordinary file.

    Args:
        path: the file.
        limit: bytes that it may have at most.
        expected: what it should be, for messages: ``an image file``.

    Raises:
        FileError: missing, no ordinary file, empty, larger than ``limit``, or unreadable.
    """
    check_file(path, limit, expected)
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)  # it may have grown since it was measured
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > limit:
        raise FileError(f"{path}: grows while it is read, expected {expected}")
    return data


def read_json(path: Path, limit: int, expected: str) -> Any:
    """The value in an ordinary JSON file.

    Raises:
        FileError: as ``read_file``, or the file is not JSON in UTF-8, or nested too deeply.
    """
    data = read_file(path, limit, expected)
    try:
        return json.loads(data.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FileError(f"{path}: cannot be read as JSON ({error})") from error
    except ValueError as error:  # Python's own, whose advice is for who writes the program
        digits = sys.get_int_max_str_digits()
        reason = f"an integer of more than {digits} digits"
        raise FileError(f"{path}: cannot be read as JSON ({reason})") from error


def check_file(path: Path, limit: int, expected: str) -> None:
    """Refuse what ``read_file`` would refuse, for readers that open the file themselves.

    A pipe without a writer would be waited for, and a device be read until memory ends.

    Raises:
        FileError: as ``read_file``.
    """
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{str(path)!r}: cannot be read ({reason})") from error
    if kind := special_kind(path):
        raise FileError(f"{path}: is {kind}, expected {expected}")
    if not size:
        raise FileError(f"{path}: is empty, expected {expected}")
    if size > limit:
        raise FileError(
            f"{path}: has {_size(size)}, more than the {_size(limit)} that {expected} may have"
        )
    if not os.access(path, os.R_OK):
        raise FileError(f"{path}: cannot be read (permission denied)")


def _size(count: int) -> str:
    """A number of bytes for a message."""
    return f"{count / _MIB:.0f} MiB" if count >= _MIB else f"{count} bytes"

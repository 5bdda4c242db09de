"""Paths as people type them, and the kinds of things that they name."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class FileError(ValueError):
    """A file cannot be read or written; the message names it and the reason."""


def expand(path: str | Path) -> Path:
    """``path`` with its ``~`` expanded, unless a file has that very name.

    Raises:
        FileError: ``~name`` of a user that this machine does not have, an address as
            ``https://...``, an empty name, or no path at all.
    """
    if path == "":  # pathlib would take it for the current folder
        raise FileError("'' names no file or folder: expected a name")
    if isinstance(path, str):
        check_no_address(path)
    try:
        path = Path(path)
    except TypeError as error:
        raise FileError(f"{path!r} is no path: expected a str or a pathlib.Path") from error
    if not str(path).startswith("~") or os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise FileError(
            f"{path}: this machine has no user {path.parts[0][1:]!r}; write ./{path} for a file of "
            "that name"
        ) from error


def check_no_address(typed: str) -> None:
    """Refuse ``https://...`` and the like, of which a ``Path`` would drop a slash.

    Raises:
        FileError: it is one, and no file's name.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", typed) and not os.path.lexists(typed):
        raise FileError(
            f"{typed}: is an address, and only files of this machine are read; fetch it"
        )


def exists(path: Path) -> bool:
    """Whether the path names something that can be reached; a name that is too long does not."""
    return os.path.exists(path)  # noqa: PTH110  # which raises no error


def special_kind(path: Path) -> str | None:
    """``a folder``, ``a named pipe``, ``a device`` or ``a socket``; None for all else.

    Links are followed. A path that names nothing, or cannot be asked, is None too.
    """
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):  # a name with a null byte is a ValueError
        return None


def same_file(first: Path, second: Path) -> bool:
    """Whether two paths lead to one file, by links of either kind, or would once it is made."""
    try:
        if first.samefile(second):
            return True
    except (OSError, ValueError):
        pass  # one of them is not there yet
    return os.path.realpath(first) == os.path.realpath(second)

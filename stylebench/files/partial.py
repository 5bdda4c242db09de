"""Temporary files of writes: one beside each file that is written, and none that stays behind.

A process holds a lock on its temporary file until the write is done. One that nobody holds is of a
run that was killed, and is removed by the next run that writes into the folder.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from stylebench.files.lock import try_lock

_NAME = re.compile(r"\.stylebench-[0-9a-f]{8}\.partial(\.[^.]{1,16})?")
_LONGEST_SUFFIX = 17  # characters, the dot among them; the name stays far below 255 bytes
_UNFOLLOWED = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_OLD = 24 * 3600  # seconds, where locks are not to be had


def create_partial(folder: Path, suffix: str, mode: int) -> tuple[int, Path]:
    """Create an empty temporary file in ``folder``; return its locked descriptor, and its path.

    Args:
        folder: that it is to be in. What dead runs have left there is removed first.
        suffix: of its name, by which writers choose a format.
        mode: its permissions, less the umask.

    Raises:
        OSError: it cannot be created.
    """
    _clear_once(folder)
    suffix = suffix if len(suffix.encode()) <= _LONGEST_SUFFIX else ""
    path = folder / f".stylebench-{secrets.token_hex(4)}.partial{suffix}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    try_lock(descriptor)
    return descriptor, path


def clear_partials(folder: Path) -> None:
    """Remove the temporary files of dead runs from ``folder``; those in use stay."""
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(folder) if _NAME.fullmatch(entry.name)]
        for path in (folder / name for name in names):
            if _is_dead(path):
                path.unlink(missing_ok=True)


@cache  # once a process is enough, and a folder may hold many files
def _clear_once(folder: Path) -> None:
    clear_partials(folder)


def _is_dead(path: Path) -> bool:
    """Whether no process holds the lock of ``path``, or it is old where locks are unknown."""
    with suppress(OSError):
        descriptor = os.open(path, _UNFOLLOWED)
        try:
            locked = try_lock(descriptor)
        finally:
            os.close(descriptor)
        if locked is not None:
            return locked
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime > _OLD
    return False

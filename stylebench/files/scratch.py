"""Temporary folders that outlive no run: those of dead ones are cleared when the next begins."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stylebench.files.lock import try_lock

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def scratch_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new temporary folder, removed when the block ends.

    A run holds a lock on its folder for as long as it lives, however it ends, so a folder of that
    prefix that nobody holds is a dead run's, and is removed first.

    Args:
        prefix: of its name; nothing else may be named so.
        parent: where it is made; None: the system's folder for temporary files.

    Raises:
        OSError: no folder can be made there.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    _clear_dead(prefix, parent)
    folder, lock = _made(prefix, parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _clear_dead(prefix: str, parent: Path) -> None:
    """Remove what nobody holds; where there are no locks, folders of dead runs stay."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            descriptor = _opened(folder)
            try:
                if try_lock(descriptor):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _made(prefix: str, parent: Path) -> tuple[Path, int | None]:
    """A folder and its lock; between the two another run may take it for a dead one's."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            descriptor = _opened(folder)
        except FileNotFoundError:
            continue
        except OSError:  # Windows opens no folders
            return folder, None
        if try_lock(descriptor) is not False and folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _opened(folder: Path) -> int:
    """The descriptor of this user's ``folder``.

    Raises:
        OSError: it is no folder, a link to one, or another user's.
    """
    descriptor = os.open(folder, _FOLDER)
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(f"{folder}: is another user's")
    return descriptor

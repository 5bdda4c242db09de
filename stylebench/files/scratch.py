"""Temporary folders that outlive no run: those of dead ones are cleared when the next begins."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without locks: folders of dead runs stay there
    fcntl = None  # type: ignore[assignment]


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
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            lock = _locked(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _made(prefix: str, parent: Path) -> tuple[Path, int | None]:
    """A folder and its lock; between the two another run may take it for a dead one's."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = _locked(folder)
        except (FileNotFoundError, BlockingIOError):
            continue
        except OSError:  # a file system without locks
            return folder, None
        if lock is None or folder.exists():
            return folder, lock
        os.close(lock)


def _locked(folder: Path) -> int | None:
    """The descriptor of ``folder``, locked; None where it is not this user's or cannot be.

    Raises:
        OSError: another run holds it, or it is no folder.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(f"{folder}: is another user's")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor

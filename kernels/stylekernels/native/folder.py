"""The folder of machine code and measurements that the next start takes up."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

_LARGEST = 2**26  # bytes, of a file that is read
_OTHERS_MAY_WRITE = 0o022


def cache_folder() -> Path:
    """``stylebench`` in the user's cache, or a folder that ``STYLEBENCH_CACHE`` names."""
    if folder := os.environ.get("STYLEBENCH_CACHE"):
        return Path(os.path.expanduser(folder))  # noqa: PTH111  # never raises
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "stylebench"  # noqa: PTH111


def read_kept(file: Path) -> bytes | None:
    """The bytes of a file that ``keep`` wrote.

    None where there is none: no ordinary file, one that is too large, and one that another user
    wrote or may write, whose machine code would be run.
    """
    try:
        with open(file, "rb", opener=_open) as stream:  # a path has no opener
            status = os.fstat(stream.fileno())
            if not S_ISREG(status.st_mode) or status.st_size > _LARGEST or _is_foreign(status):
                return None
            return stream.read()
    except OSError:
        return None


def keep(file: Path, data: bytes) -> bool:
    """Write ``data`` to ``file`` at once; without it the next start takes longer.

    What is no ordinary file stays as it is.

    Returns:
        Whether the file is there.
    """
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and not file.is_file():
            return False
        descriptor, partial = tempfile.mkstemp(dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            Path(partial).replace(file)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        return True
    return False


def _open(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO would wait for a writer


def _is_foreign(status: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):  # Windows has no modes
        return False
    return status.st_uid not in (0, os.geteuid()) or bool(status.st_mode & _OTHERS_MAY_WRITE)

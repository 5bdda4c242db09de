"""Output files: checked before the run, written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stylebench.files.partial import create_partial
from stylebench.files.paths import FileError, exists, expand, special_kind

_SYSTEM = ("/proc", "/sys")
_NO_RENAME = {errno.EBUSY, errno.EPERM, errno.EACCES, errno.EXDEV, errno.EROFS}


def check_writable(path: str | Path) -> Path:
    """Return ``path``, with ``~`` expanded, if an ordinary file can be written there.

    Links are followed: it is their target that would be written.

    Raises:
        FileError: a folder, device, pipe or socket is there, a file that is read-only or one of
            the system's settings; the folder is missing or not writable; the name is too long.
    """
    path = expand(path)
    target = _target(path)
    if kind := special_kind(target):
        raise FileError(f"{path}: is {kind}, expected a file name")
    if not os.path.isdir(target.parent):  # noqa: PTH112  # False also where it cannot be asked
        raise FileError(f"{path}: the folder {_parent(path, target)} does not exist; make it first")
    there = _exists(path, target)
    _check_on_disk(path)
    if there and not os.access(target, os.W_OK):
        raise FileError(f"{path}: is read-only; take another name, or make it writable")
    if not there and not os.access(target.parent, os.W_OK):
        raise FileError(f"{path}: the folder {_parent(path, target)} cannot be written to")
    return path


def check_folder(path: str | Path) -> Path:
    """Return ``path``, with ``~`` expanded, if files can be written into it once it is made.

    Nothing is made: a command that is refused for another reason leaves nothing behind.

    Raises:
        FileError: no folder is there, or none can be made.
    """
    path = expand(path)
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # it can be made, or the nearest one above is told
    except (OSError, ValueError) as error:  # too long a name, a null byte
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{str(path)!r}: cannot be made ({reason})") from error
    _check_on_disk(path)
    nearest = path
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if special_kind(nearest) != "a folder":
        raise FileError(f"{path}: {nearest} is no folder, expected one to write into")
    if not os.access(nearest, os.W_OK):
        raise FileError(f"{path}: the folder {nearest} cannot be written to")
    return path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file that replaces ``path`` when the block ends without error.

    A link stays, and its target is replaced. The mode and the owner of a file that is replaced
    stay too. A file that cannot be replaced by another, such as a mount point, is overwritten with
    the whole contents at once.

    Raises:
        FileError: as ``check_writable``.
        OSError: the disk is full, the folder was removed, and so on; ``path`` is as it was.
    """
    target = _target(check_writable(path))
    before = target.stat() if exists(target) else None
    descriptor, partial = _create_beside(target, before)
    try:
        yield partial
        _keep_owner(partial, before)
        _flush(partial)  # a disk that is full may say so only now
        _replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def naming_file(path: Path, what: str) -> Iterator[None]:
    """Let errors of the disk, which name no file, name the one that is written.

    Args:
        path: of the file.
        what: it is, for the message: ``the report page``.

    Raises:
        FileError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise FileError(f"{path}: {what} cannot be written ({reason})") from error


def _check_on_disk(path: Path) -> None:
    """Refuse the system's own settings, which root may write: they only look like files."""
    real = Path(os.path.realpath(path))
    for system in _SYSTEM:
        if real.is_relative_to(system):
            raise FileError(f"{path}: is in {system}, which is no disk; take another name")


def _target(path: Path) -> Path:
    """The file that ``path`` names once links are followed."""
    try:
        return Path(os.path.realpath(path)) if path.is_symlink() else path
    except (OSError, ValueError) as error:
        raise _no_name(path, error) from error


def _parent(path: Path, target: Path) -> Path:
    return path.parent if target == path else target.parent


def _exists(path: Path, target: Path) -> bool:
    try:
        target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise _no_name(path, error) from error
    return True


def _no_name(path: Path, error: Exception) -> FileError:
    reason = getattr(error, "strerror", None) or error
    return FileError(f"{str(path)!r}: cannot be written ({reason})")


def _create_beside(target: Path, before: os.stat_result | None) -> tuple[int, Path]:
    """A temporary file in the folder of ``target``, or of temporary files where that refuses."""
    mode = 0o666 if before is None else stat.S_IMODE(before.st_mode) & 0o777
    try:
        return create_partial(target.parent, target.suffix, mode)
    except OSError as error:
        if before is None or error.errno not in _NO_RENAME:
            raise
    return create_partial(Path(tempfile.gettempdir()), target.suffix, mode)


def _keep_owner(partial: Path, before: os.stat_result | None) -> None:
    """Give ``partial`` the owner and the mode of the file that it replaces."""
    if before is None:
        return
    with suppress(OSError, AttributeError):  # root alone may, and Windows has no owners
        os.chown(partial, before.st_uid, before.st_gid)
    with suppress(OSError):  # some file systems have no modes
        partial.chmod(stat.S_IMODE(before.st_mode))


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _replace(partial: Path, target: Path) -> None:
    try:
        partial.replace(target)
    except OSError as error:
        if error.errno not in _NO_RENAME or not target.is_file():
            raise
        _overwrite(target, partial.read_bytes())


def _overwrite(target: Path, data: bytes) -> None:
    """Write ``data`` into a file in place, once there is room for all of it."""
    with target.open("r+b", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, len(data)))
        except OSError:
            file.truncate(size)
            raise
        except AttributeError:  # macOS: the room is not asked for
            pass
        rest = memoryview(data)
        while rest:  # a single call up to 2 GiB, which no signal can cut
            rest = rest[file.write(rest) :]
        file.truncate(len(data))

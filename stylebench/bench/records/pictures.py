"""The image files that a record names, wherever the record comes from."""

from __future__ import annotations

from pathlib import Path

from stylebench.files.paths import FileError
from stylebench.files.reading import check_file

_LIMIT = 64 * 2**20  # bytes; a suite's pictures have a thousandth


def picture_file(folder: Path, name: str) -> Path:
    """The image file ``name``, relative to the record's ``folder``.

    A record from elsewhere must not put another file of this machine's into what is published.

    Raises:
        FileError: outside of ``folder``, missing, no ordinary file, or of more than 64 MiB.
    """
    path = (folder / name).resolve()
    if Path(name).is_absolute() or not path.is_relative_to(folder.resolve()):
        raise FileError(f"{name} is outside of the record's folder")
    check_file(path, _LIMIT, "an image file")
    return path

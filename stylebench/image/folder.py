"""Folders of pictures."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from stylebench.files.paths import FileError
from stylebench.image.decode import FORMATS
from stylebench.image.heif import SUFFIXES


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder by their suffixes, in the order of their names and numbers.

    Hidden files are none, nor what lies in folders below.

    Raises:
        FileError: there is none, or the folder cannot be read.
    """
    Image.init()
    known = {suffix for suffix, name in Image.EXTENSION.items() if name in FORMATS}.union(SUFFIXES)
    pictures = [path for path in visible(folder) if path.suffix.lower() in known]
    pictures = [path for path in pictures if not path.is_dir()]
    if not pictures:
        raise FileError(f"{folder}: has no pictures, expected files as .png or .jpg in it")
    return sorted(pictures, key=_natural)


def visible(folder: Path) -> list[Path]:
    """The entries of a folder but for hidden ones, which file managers and copies leave behind.

    Raises:
        FileError: the folder cannot be read.
    """
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise FileError(f"{folder}: cannot be read ({error.strerror})") from error


def _natural(path: Path) -> list[tuple[int, str]]:
    """``frame9`` before ``frame10``."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

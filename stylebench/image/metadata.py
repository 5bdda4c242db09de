"""Metadata of a photograph that its repainted copy keeps: artist, copyright and resolution."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from PIL import Image

from stylebench.files.paths import expand

ARTIST_TAG, COPYRIGHT_TAG = 0x013B, 0x8298
X_RESOLUTION_TAG, Y_RESOLUTION_TAG, RESOLUTION_UNIT_TAG = 0x011A, 0x011B, 0x0128
INCH, _CENTIMETER = 2, 3  # values of the unit of a resolution
_PER_INCH = {INCH: 1.0, _CENTIMETER: 2.54}
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF")  # the ones that carry them


@dataclass(frozen=True)
class Metadata:
    """Artist, copyright and resolution of a picture.

    Attributes:
        artist: its author, or None.
        copyright: who may use it, or None.
        dpi: dots an inch, horizontally and vertically, or None.
    """

    artist: str | None = None
    copyright: str | None = None
    dpi: tuple[float, float] | None = None


NO_METADATA = Metadata()


def read_metadata(source: object) -> Metadata:
    """The metadata of an image file, its bytes or a PIL image; empty for all else or if broken."""
    try:
        if isinstance(source, Image.Image):
            return _metadata(source)
        if isinstance(source, str | Path | bytes):
            file = io.BytesIO(source) if isinstance(source, bytes) else expand(source)
            Image.init()
            formats = [name for name in _FORMATS if name in Image.OPEN]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of size and of tags: the loader tells what counts
                with Image.open(file, formats=formats) as image:
                    return _metadata(image)
    except Exception:  # readers of metadata raise what they like, and no run depends on it
        pass
    return NO_METADATA


def _metadata(image: Image.Image) -> Metadata:
    exif = image.getexif()
    return Metadata(
        _text(exif.get(ARTIST_TAG)) or _text(image.info.get("Author")),
        _text(exif.get(COPYRIGHT_TAG)) or _text(image.info.get("Copyright")),
        _dpi(image.info.get("dpi")) or _exif_dpi(exif),
    )


def _text(value: object) -> str | None:
    if isinstance(value, str):
        with suppress(UnicodeError):  # Pillow reads EXIF as Latin-1, and cameras write UTF-8
            value = value.encode("latin-1").decode("utf-8")
        return value.replace("\0", " ").strip() or None
    return None


def _exif_dpi(exif: Image.Exif) -> tuple[float, float] | None:
    factor = _PER_INCH.get(exif.get(RESOLUTION_UNIT_TAG, INCH))
    x, y = exif.get(X_RESOLUTION_TAG), exif.get(Y_RESOLUTION_TAG)
    return None if not (factor and x and y) else _dpi((float(x) * factor, float(y) * factor))


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(number) for number in value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 and isfinite(x + y) else None

"""Pictures of the gallery, inside the page: the reference's, an engine's, and where they differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops

from stylebench.bench.report.rows import Row, labels
from stylebench.bench.report.tables import Cell, source, verdict

_LARGEST = 1024  # px; a page has many pictures
_SMALL = 192  # px, of content and style
_AMPLIFIED = 10


@dataclass(frozen=True)
class Picture:
    """One picture, as a data URI, with its size in px."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Exhibit:
    """A pair to be compared; content and style are None where the record has none."""

    label: str
    machine: str
    reference: Picture
    output: Picture
    difference: Picture | None
    content: Picture | None
    style: Picture | None
    parity: Cell
    record: Cell


def exhibits(rows: Iterable[Row]) -> tuple[list[Exhibit], list[str]]:
    """What can be shown of the rows with pictures, and a line for every one that cannot."""
    shown = [row for row in rows if {"reference", "output"} <= row.case.pictures.keys()]
    found, faults = [], []
    for row, label in zip(shown, labels(shown, ("engine", "precision", "size")), strict=True):
        try:
            found.append(_exhibit(row, label))
        except (OSError, ValueError) as error:
            faults.append(f"{row.stored.path}: pictures of {row.case.name}: {error}")
    return found, faults


def _exhibit(row: Row, label: str) -> Exhibit:
    pictures = {name: _opened(row, file) for name, file in row.case.pictures.items()}
    reference, output = pictures["reference"], pictures["output"]
    small = {
        name: _embedded(pictures[name], _SMALL) if name in pictures else None
        for name in ("content", "style")
    }
    return Exhibit(
        label,
        row.machine,
        _embedded(reference, _LARGEST),
        _embedded(output, _LARGEST),
        _difference(reference, output),
        small["content"],
        small["style"],
        verdict(row.case),
        source(row),
    )


def _opened(row: Row, file: str) -> Image.Image:
    folder = row.stored.path.parent.resolve()
    path = (folder / file).resolve()
    # A record from elsewhere must not put a file of this machine's into a page to be published.
    if Path(file).is_absolute() or not path.is_relative_to(folder):
        raise ValueError(f"{file} is outside of the record's folder")
    with Image.open(path) as image:
        return image.convert("RGB")


def _difference(reference: Image.Image, output: Image.Image) -> Picture | None:
    # Of the files as they are, before the page compresses them.
    if reference.size != output.size:
        return None
    apart = ImageChops.difference(reference, output).point(lambda value: value * _AMPLIFIED)
    return _embedded(apart, _LARGEST)


def _embedded(image: Image.Image, largest: int) -> Picture:
    image = image.copy()
    image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    image.save(held, "WEBP", quality=90, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(held.getvalue()).decode("ascii")
    return Picture(uri, *image.size)

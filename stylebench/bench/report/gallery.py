"""Pictures of the gallery, inside the page: the reference's, an engine's, and where they differ."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image, ImageChops

from stylebench.bench.report.frame import labels
from stylebench.bench.report.tables import Cell

_LARGEST = 1024  # px; a page has many pictures
_SMALL = 192  # px, of content and style
_AMPLIFIED = 10


class Picture(NamedTuple):
    """One picture, as a data URI, with its size in px."""

    uri: str
    width: int
    height: int


class Exhibit(NamedTuple):
    """A pair to be compared; ``origins`` are its content and style where the record has them."""

    label: str
    machine: str
    reference: Picture
    output: Picture
    difference: Picture | None
    origins: dict[str, Picture]
    parity: Cell
    record: Cell


def exhibits(frame: pd.DataFrame, folders: list[Path]) -> tuple[list[Exhibit], list[str]]:
    """The rows with pictures, and a line for every row whose pictures cannot be shown.

    Args:
        frame: of ``page_frame``.
        folders: of the records, by their index.
    """
    paired = frame["pictures"].map(lambda files: {"reference", "output"} <= files.keys())
    shown = frame[paired.astype(bool)]
    shown = shown.assign(label=labels(shown, ("engine", "precision", "size")))
    found, faults = [], []
    for _, row in shown.iterrows():
        folder = folders[row["record"]]
        try:
            files = {name: _opened(folder, file) for name, file in row["pictures"].items()}
        except (OSError, ValueError) as error:
            faults.append(f"{row['path']}: pictures of {row['case']}: {error}")
            continue
        found.append(
            Exhibit(
                row["label"],
                row["machine"],
                _embedded(files["reference"], _LARGEST),
                _embedded(files["output"], _LARGEST),
                _difference(files["reference"], files["output"]),
                {n: _embedded(files[n], _SMALL) for n in ("content", "style") if n in files},
                row["verdict"],
                row["link"],
            )
        )
    return found, faults


def _opened(folder: Path, file: str) -> Image.Image:
    path = (folder / file).resolve()
    # A record from elsewhere must not put a file of this machine's into a page to be published.
    if Path(file).is_absolute() or not path.is_relative_to(folder.resolve()):
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
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(uri, *image.size)

"""Pictures of the gallery, inside the page: the reference's, an engine's, and where they differ."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from PIL import Image, ImageChops

from stylebench.bench.records.pictures import picture_file
from stylebench.bench.report.frame import labels

_FORMATS = ("PNG", "JPEG", "WEBP")
_MOST_PIXELS = 4096 * 4096  # of a file; those of a suite have a few hundred a side
_LARGEST = 1024  # px; a page has many pictures
_SMALL = 192  # px, of content and style
_AMPLIFIED = 10


class Picture(NamedTuple):
    """One picture, as a data URI, with its size in px."""

    uri: str
    width: int
    height: int


def exhibits(frame: pd.DataFrame, folders: list[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows with pictures, and a line for every row whose pictures cannot be shown.

    Rows have their ``label``, the pictures ``reference``, ``output``, ``difference`` (or None), and
    ``origins``, the content and style where the record has them.

    Args:
        frame: of ``page_frame``.
        folders: of the records, by their index.
    """
    paired = frame["pictures"].map(lambda files: {"reference", "output"} <= files.keys())
    rows = frame[paired.astype(bool)]
    rows = rows.assign(label=labels(rows, ("engine", "precision", "size")))
    records: list[dict[str, Any]] = rows.to_dict("records")  # type: ignore[assignment]
    found, faults = [], []
    for row in records:
        try:
            files = {
                name: _opened(folders[row["record"]], file)
                for name, file in row["pictures"].items()
            }
        except Exception as error:  # decoders raise errors of many types
            faults.append(f"{row['path']}: pictures of {row['case']}: {error}")
        else:
            found.append(row | _embedded_all(files))
    return found, faults


def _embedded_all(files: dict[str, Image.Image]) -> dict[str, Any]:
    reference, output = files["reference"], files["output"]
    apart = None
    if reference.size == output.size:  # of the files as they are, before the page compresses them
        apart = ImageChops.difference(reference, output).point(lambda value: value * _AMPLIFIED)
    return {
        "reference": _embedded(reference, _LARGEST),
        "output": _embedded(output, _LARGEST),
        "difference": apart and _embedded(apart, _LARGEST),
        "origins": {n: _embedded(files[n], _SMALL) for n in ("content", "style") if n in files},
    }


def _opened(folder: Path, file: str) -> Image.Image:
    with Image.open(picture_file(folder, file), formats=_FORMATS) as image:
        width, height = image.size
        if width * height > _MOST_PIXELS:  # before any is unpacked
            raise ValueError(f"{file} has {width} x {height} px, more than a page should hold")
        return image.convert("RGB")


def _embedded(image: Image.Image, largest: int) -> Picture:
    image = image.copy()
    image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(uri, *image.size)

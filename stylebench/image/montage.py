"""A montage: several pictures side by side in one."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

_GAP = 8  # px between two pictures


def side_by_side(pictures: Sequence[Image.Image], height: int) -> Image.Image:
    """An RGB picture of ``pictures`` side by side, ``height`` px high, with white gaps."""
    scaled = [
        picture.convert("RGB").resize(
            (round(picture.width * height / picture.height), height), Image.Resampling.LANCZOS
        )
        for picture in pictures
    ]
    width = sum(picture.width for picture in scaled) + _GAP * (len(scaled) - 1)
    canvas = Image.new("RGB", (width, height), "white")
    left = 0
    for picture in scaled:
        canvas.paste(picture, (left, 0))
        left += picture.width + _GAP
    return canvas

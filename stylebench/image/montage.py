"""Several pictures as one."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

_GAP = 8  # px between two pictures


def side_by_side(pictures: Sequence[Image.Image], height: int) -> Image.Image:
    """Pictures side by side at one height, on white."""
    scaled = [
        each.convert("RGB").resize(
            (round(each.width * height / each.height), height), Image.Resampling.LANCZOS
        )
        for each in pictures
    ]
    width = sum(each.width for each in scaled) + _GAP * (len(scaled) - 1)
    canvas = Image.new("RGB", (width, height), "white")
    left = 0
    for each in scaled:
        canvas.paste(each, (left, 0))
        left += each.width + _GAP
    return canvas

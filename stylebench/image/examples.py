"""The pair of pictures that is used where none are given: a photograph and a painting.

They lie in ``examples/images`` of a checkout. An installed wheel has none, and draws a pair.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps

from stylebench.image.synthetic import landscape, painting

Role = Literal["content", "style"]

FOLDER = Path(__file__).parents[2] / "examples" / "images"
FILES: dict[Role, str] = {"content": "tuebingen.jpg", "style": "starry_night.jpg"}
DRAWN: dict[Role, str] = {"content": "drawn landscape", "style": "drawn painting"}
_DRAWN_SIDE = 640  # px, longest side of a drawn picture; larger ones are resized from it


def example_name(role: Role) -> str:
    """The name of the picture for records: its file's, or that of a drawn one."""
    return FILES[role] if _has_files() else DRAWN[role]


@cache  # drawing takes seconds, and must not fall into what is timed
def example(role: Role, width: int, height: int) -> Image.Image:
    """The picture at the aspect of ``width`` x ``height``, not yet at its size.

    A file is cut to that aspect around its center, so that sizes are those of a suite exactly.
    """
    if _has_files():
        with Image.open(FOLDER / FILES[role]) as picture:
            return ImageOps.fit(picture, _largest_within(picture.size, (width, height)))
    scale = min(1.0, _DRAWN_SIDE / max(width, height))
    draw = landscape if role == "content" else painting
    return draw(max(8, round(width * scale)), max(8, round(height * scale)))


def _has_files() -> bool:
    """Whether both are there: half of a pair is none."""
    return all((FOLDER / name).is_file() for name in FILES.values())


def _largest_within(size: tuple[int, int], aspect: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) of an ``aspect`` that a picture of ``size`` holds."""
    scale = min(side / part for side, part in zip(size, aspect, strict=True))
    return round(aspect[0] * scale), round(aspect[1] * scale)

"""``Settings.color``: the pictures as a run sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from stylebench.image.color import luminance, match_colors, match_luminance
from stylebench.image.load import Picture

if TYPE_CHECKING:
    from stylebench.image.color import Root

STYLE, LUMINANCE = "style", "content-luminance"
_ROOTS: dict[str, Root] = {"match": "symmetric", "match-cholesky": "cholesky"}
COLORS = (STYLE, LUMINANCE, *_ROOTS)


class Colored(NamedTuple):
    """The pictures of a run, in the colors that it sees them in."""

    content: Picture
    styles: list[Picture]
    init: Picture | None


def in_color(
    content: Picture, styles: Sequence[Picture], init: Picture | None, color: str
) -> Colored:
    """The pictures as a run with a choice of ``COLORS`` but ``style`` sees them, at their own size.

    They are changed once a run, before they are resized, so that all scales see the same pictures.
    Transparent parts of the content do not count in its statistics.
    """
    C, alpha = content.rgb, content.alpha
    if color == LUMINANCE:
        recolored = [match_luminance(style.rgb, C, alpha) for style in styles]
        content, init = _gray(content), init and _gray(init)
    else:
        recolored = [match_colors(style.rgb, C, _ROOTS[color], alpha) for style in styles]
    pairs = zip(styles, recolored, strict=True)
    return Colored(content, [replace(style, rgb=rgb.clamp(0, 1)) for style, rgb in pairs], init)


def _gray(picture: Picture) -> Picture:
    return replace(picture, rgb=luminance(picture.rgb))

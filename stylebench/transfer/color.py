"""``Settings.color``: the pictures as a run sees them, and the result as it is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from stylebench.image.color import luminance, match_colors, match_luminance
from stylebench.image.load import Picture

if TYPE_CHECKING:
    from stylebench.image.color import Root
    from stylebench.transfer.inputs import Inputs

STYLE, LUMINANCE = "style", "content-luminance"
_ROOTS: dict[str, Root] = {"match": "symmetric", "match-cholesky": "cholesky"}
COLORS = (STYLE, LUMINANCE, *_ROOTS)


def in_color(inputs: Inputs, color: str) -> Inputs:
    """``inputs`` as a run with this choice of ``COLORS`` sees them, at their own size.

    They are changed once a run, before they are resized, so that all scales see the same pictures.
    Transparent parts of the content do not count in its statistics.
    """
    if color == STYLE:
        return inputs
    C, alpha = inputs.content.rgb, inputs.content.alpha
    if color == LUMINANCE:
        styles = [match_luminance(style.rgb, C, alpha) for style in inputs.styles]
        content, init = _gray(inputs.content), inputs.init and _gray(inputs.init)
    else:
        styles = [match_colors(style.rgb, C, _ROOTS[color], alpha) for style in inputs.styles]
        content, init = inputs.content, inputs.init
    pairs = zip(inputs.styles, styles, strict=True)
    paintings = [replace(style, rgb=rgb.clamp(0, 1)) for style, rgb in pairs]
    return replace(inputs, content=content, styles=paintings, init=init, loaded=inputs)


def chrominance_source(inputs: Inputs, color: str) -> Tensor | None:
    """RGB [3, H, W], at its own size, that the result takes its chrominance from, if any."""
    return inputs.loaded.content.rgb if color == LUMINANCE and inputs.loaded else None


def _gray(picture: Picture) -> Picture:
    return replace(picture, rgb=luminance(picture.rgb))

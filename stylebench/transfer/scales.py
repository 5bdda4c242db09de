"""``auto`` scales: coarse to fine, half of the iterations at the smallest size, then a quarter.

An iteration at half the size costs a quarter, and shapes what is large in the picture: the last
size has only what is fine left to do. The size asked for keeps its iterations: with three quarters
of them a picture of 384 px ended above the reference. docs/decisions/scales.md has the figures.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from stylebench.image.load import ImageError
from stylebench.transfer.inputs import Inputs, fit_pictures
from stylebench.transfer.seamless import closes
from stylebench.transfer.settings import Settings

FROM_SIZE = 192  # px, the longest side that scales are worth it for
_LONGER, _SHORTER = 64, 48  # px, the least sides of a scale
_LEAST_ITERATIONS = 50
_SMALLEST, _SMALLER = 0.5, 0.25  # of the iterations, at the smallest size and at others


def with_scales(settings: Settings, inputs: Inputs) -> Settings:
    """``settings`` with the sizes and iterations that ``auto`` scales come to.

    A run from an image file keeps its one size: the file may be the result of another run.
    """
    if settings.scales != "auto":
        return settings
    preset = settings.resolved_preset()
    worth_it = preset.size >= FROM_SIZE and preset.iterations >= _LEAST_ITERATIONS
    if not worth_it or settings.starts_from_file:
        return replace(settings, scales=None)
    return coarse_to_fine(settings, inputs)


def coarse_to_fine(settings: Settings, inputs: Inputs) -> Settings:
    """``settings`` with half of their iterations at the smallest size, a quarter at others."""
    preset = settings.resolved_preset()
    sizes = _smaller_sizes(settings, inputs, preset.size)
    if not sizes:
        return replace(settings, scales=None)
    scales = dict.fromkeys(sizes, ceil(_SMALLER * preset.iterations))
    scales[sizes[0]] = ceil(_SMALLEST * preset.iterations)
    return replace(settings, scales=scales)


def _smaller_sizes(settings: Settings, inputs: Inputs, size: int) -> list[int]:
    """Longest sides of the scales before ``size``, the smallest first."""
    sizes: list[int] = []
    side = size // 2
    while side >= _LONGER and _fits(settings, inputs, side):
        sizes.insert(0, side)
        side //= 2
    return sizes


def _fits(settings: Settings, inputs: Inputs, side: int) -> bool:
    """Whether every picture has enough pixels where the result's longest side is ``side``.

    A seamless one has to close around its edges as well.
    """
    try:
        sizes = fit_pictures(inputs, settings, side)
    except ImageError:
        return False
    preset = settings.resolved_preset()
    if preset.seamless and not closes(sizes.content, preset):
        return False
    return min(sizes.content) >= _SHORTER

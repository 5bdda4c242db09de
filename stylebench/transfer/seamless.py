"""The sizes that a seamless picture can have: those whose poolings close around its edges."""

from __future__ import annotations

from stylebench.image.load import ImageError
from stylebench.model.presets import Preset

Size = tuple[int, int]  # (height, width) in pixels


def closes(size: Size, preset: Preset) -> bool:
    """Whether no pooling window of the network would be cut by the edge of the picture."""
    return all(side % preset.smallest_side == 0 for side in size)


def check_closes(size: Size, preset: Preset) -> None:
    """Refuse a size of which a seamless picture cannot be.

    Raises:
        ImageError: naming the next sizes that it can be of.
    """
    if closes(size, preset):
        return
    step = preset.smallest_side
    below = [max(step, side // step * step) for side in size]
    above = [-(-side // step) * step for side in size]
    raise ImageError(
        f"seamless: a picture of {_shown(size)} px does not close around its edges; expected sides "
        f"that are multiples of {step} px, as {_shown(below)} or {_shown(above)}"
    )


def _shown(size: Size | list[int]) -> str:
    height, width = size
    return f"{width} x {height}"

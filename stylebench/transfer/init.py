"""``Settings.init``: the names of starting images, and the images that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from stylebench.image.load import resize
from stylebench.transfer.values import shown

if TYPE_CHECKING:
    from stylebench.transfer.inputs import Inputs

INITS = ("content", "noise", "style", "gray", "mean")
CONTENT_NOISE = "content+noise:"  # before the share of noise in a mixture
CHOICES = f"{', '.join(INITS)}, {CONTENT_NOISE}SHARE"  # for messages
_GRAY = 0.5  # of the image's range [0, 1]
_NOISE_DEVIATION = 0.25  # likewise


class Start(NamedTuple):
    """A starting image, RGB [3, H, W].

    Attributes:
        rgb: the image.
        noiseless: the same without the noise that was mixed in; ``rgb`` itself where none was.
    """

    rgb: Tensor
    noiseless: Tensor


def is_named(init: object) -> bool:
    """Whether ``init`` is a name, and no picture or file.

    A file of such a name is one by its path: ``./noise``, or ``Path("noise")``.
    """
    return isinstance(init, str) and (init in INITS or init.startswith(CONTENT_NOISE))


def checked_name(init: str) -> str:
    """A name, the share of noise in its shortest form.

    Raises:
        ValueError: the share of noise is no number from 0 to 1.
    """
    if init in INITS:
        return init
    try:
        share = float(init.removeprefix(CONTENT_NOISE))
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(
            f"init is {shown(init)}: expected a share of noise from 0 to 1, as {CONTENT_NOISE}0.2"
        )
    return f"{CONTENT_NOISE}{share:g}"


def starting_image(
    init: str, seed: int, size: tuple[int, int], inputs: Inputs, style_weights: Sequence[float]
) -> Start:
    """The image that a run starts from.

    Args:
        init: ``Preset.init``; of no effect where ``inputs`` have a picture for it.
        seed: of the noise.
        size: (height, width) in pixels.
        inputs: as the run sees them.
        style_weights: one a style image, adding up to 1; ``mean`` is the style images' mean color.
    """
    if inputs.init:
        return _whole(resize(inputs.init.rgb, size))
    if init == "noise":
        return _whole(_noise(size, seed))
    if init == "gray":
        return _whole(torch.full((3, *size), _GRAY))
    if init == "mean":
        means = [style.rgb.double().mean(dim=(1, 2)) for style in inputs.styles]
        mean = sum(w * m for w, m in zip(style_weights, means, strict=True))
        return _whole(torch.as_tensor(mean).float()[:, None, None].repeat(1, *size))
    picture = inputs.styles[0] if init == "style" else inputs.content
    rgb = resize(picture.rgb, size)
    if not init.startswith(CONTENT_NOISE):
        return _whole(rgb)
    share = float(init.removeprefix(CONTENT_NOISE))
    return Start(rgb.lerp(_noise(size, seed), share), rgb)


def _whole(rgb: Tensor) -> Start:
    return Start(rgb, rgb)


def _noise(size: tuple[int, int], seed: int) -> Tensor:
    """White noise around mid gray, [3, H, W] RGB; from the CPU, so that no device changes it."""
    generator = torch.Generator().manual_seed(seed)
    return _GRAY + _NOISE_DEVIATION * torch.randn(3, *size, generator=generator)

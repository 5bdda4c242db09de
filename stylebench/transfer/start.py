"""The image that a run starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stylebench.image.load import resize
from stylebench.transfer.init import CONTENT_NOISE
from stylebench.transfer.inputs import Inputs

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

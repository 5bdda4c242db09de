"""A run at one size and precision: engine, targets and starting image, on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stylebench.engines import ENGINES, Engine
from stylebench.engines.tiled import TILED
from stylebench.image.load import Picture, resize
from stylebench.image.metadata import NO_METADATA, Metadata
from stylebench.model.normalize import normalized
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import Preset
from stylebench.model.vgg import VGG19, Preprocessing
from stylebench.transfer.device import (
    choose_device,
    choose_engine,
    choose_history,
    choose_optimizer,
    choose_precision,
)
from stylebench.transfer.inputs import Inputs, Sizes, fit_pictures
from stylebench.transfer.settings import Settings
from stylebench.transfer.tiles import choose_tile

_NOISE_DEVIATION = 0.25  # of the image's range [0, 1]


@dataclass(frozen=True)
class Problem:
    """One run at one size, ready to start.

    Attributes:
        engine: bound to the network, the objective and the targets.
        image: the starting image, preprocessed [1, 3, H, W].
        preprocessing: how ``image`` relates to RGB.
        alpha: [1, H, W], the content's, or None.
        preset: the preset with the run's overrides.
        parameters: every choice as it was resolved, ready for JSON.
        metadata: the content's, which the result keeps.
    """

    engine: Engine
    image: Tensor
    preprocessing: Preprocessing
    alpha: Tensor | None
    preset: Preset
    parameters: Mapping[str, Any]
    metadata: Metadata = NO_METADATA

    @property
    def description(self) -> str:
        """Size, engine, device, weights, preset and optimizer in one line."""
        chosen = self.parameters
        tiles = "" if chosen["tile"] == "none" else f", tile {chosen['tile']}"
        return (
            f"{chosen['width']} x {chosen['height']} px, engine {chosen['engine']} "
            f"{chosen['precision']} on {chosen['device']}, weights {chosen['weights']}, "
            f"preset {chosen['preset']}, {chosen['optimizer']}{tiles}"
        )

    def rgb(self, image: Tensor) -> Tensor:
        """Preprocessed [1, 3, H, W] -> [3, H, W] fp32 in [0, 1] on the CPU."""
        return self.preprocessing.invert(image.detach())[0].clamp(0, 1).float().cpu()


def build_problem(inputs: Inputs, settings: Settings, *, last: bool = False) -> Problem:
    """Resize and preprocess the pictures, build the network, capture the targets.

    Args:
        inputs: from ``load_inputs``.
        settings: their size, engine and precision may differ from those the inputs were loaded by.
        last: no other problem is built of ``inputs``, whose weights this one takes.

    Raises:
        ValueError: an engine, precision or device that cannot be had, or a size too small for the
            layers (``ImageError``).
    """
    settings = settings.sized(inputs.content.size)
    preset = settings.resolved_preset()
    device = choose_device(settings.device)
    engine_name = choose_engine(settings, device)
    precision = PRECISIONS[choose_precision(settings, engine_name, device)]
    style_weights = settings.normalized_style_weights(len(inputs.styles))
    sizes = fit_pictures(inputs, settings, preset.size)
    tiling = choose_tile(settings, sizes.content, device)

    weights = inputs.weights_for(last=last)
    # The image and the optimizer are never narrower than fp32, whatever the engine computes in.
    preprocess = _Preprocess(weights.preprocessing, device, precision.wide)
    content, styles = preprocess.pictures(inputs, sizes)
    if preset.normalize:
        pictures = [content, *styles]
        weights = normalized(weights, pictures, preset.deepest_layer, preset.pooling, tiling)
    preprocessing, identity = weights.preprocessing, weights.identity
    network = VGG19(weights, preset.deepest_layer, preset.pooling).to(device, precision.wide)
    del weights  # the network has those that it needs, and engines convert them
    targets = preset.objective(*sizes.content), content, styles, style_weights, precision
    engine: Engine = (
        ENGINES[engine_name](network, *targets)
        if tiling is None
        else TILED[engine_name](network, *targets, tiling)
    )
    del targets
    resolved = {
        "width": sizes.content[1],
        "height": sizes.content[0],
        "style_weights": style_weights,
        **identity,
        "engine": engine_name,
        "precision": precision.name,
        "optimizer": choose_optimizer(settings, engine_name),
        "history": choose_history(settings, sizes.content[0] * sizes.content[1]),
        "tile": "none" if tiling is None else tiling.name,
        "device": str(device),
    }
    alpha = inputs.content.alpha
    return Problem(
        engine=engine,
        image=_starting_image(preset.init, settings.seed, sizes.content, inputs, preprocess),
        preprocessing=preprocessing,
        alpha=None if alpha is None else resize(alpha, sizes.content),
        preset=preset,
        parameters={**vars(settings), **vars(preset), **resolved},
        metadata=inputs.content.metadata,
    )


@dataclass(frozen=True)
class _Preprocess:
    """The way from a picture to the network's variable."""

    preprocessing: Preprocessing
    device: torch.device
    dtype: torch.dtype

    def pictures(self, inputs: Inputs, sizes: Sizes) -> tuple[Tensor, list[Tensor]]:
        """Content [1, 3, H, W] and styles [1, 3, H', W'], resized and preprocessed."""
        styles = zip(inputs.styles, sizes.styles, strict=True)
        return self.picture(inputs.content, sizes.content), [self.picture(*pair) for pair in styles]

    def picture(self, picture: Picture, size: tuple[int, int]) -> Tensor:
        """[1, 3, H, W], resized to (height, width) and preprocessed."""
        return self.rgb(resize(picture.rgb, size)[None])

    def rgb(self, rgb: Tensor) -> Tensor:
        """RGB [1, 3, H, W], preprocessed."""
        return self.preprocessing.apply(rgb.to(self.device, self.dtype))


def _starting_image(
    init: str, seed: int, size: tuple[int, int], inputs: Inputs, preprocess: _Preprocess
) -> Tensor:
    """The image [1, 3, H, W] that ``Preset.init`` names, preprocessed."""
    if init == "noise":
        return preprocess.rgb(_noise(size, seed))
    named = {"content": inputs.content, "style": inputs.styles[0]}
    picture = inputs.init or named[init]
    return preprocess.picture(picture, size)


def _noise(size: tuple[int, int], seed: int) -> Tensor:
    """White noise around mid grey, [1, 3, H, W] RGB; from the CPU, so that no device changes it."""
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + _NOISE_DEVIATION * torch.randn(1, 3, *size, generator=generator)

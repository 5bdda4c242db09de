"""From images and settings to everything that a run needs, on its device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from stylebench.engines import ENGINES, Engine
from stylebench.image.load import ImageError, ImageSource, Picture, fit, load_image, resize
from stylebench.model.normalize import normalized
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import Preset
from stylebench.model.vgg import VGG19, Preprocessing
from stylebench.model.weights import load_weights
from stylebench.transfer.device import choose_device, choose_engine, choose_precision
from stylebench.transfer.settings import Settings

Styles: TypeAlias = "ImageSource | Sequence[ImageSource]"

_NOISE_SPREAD = 0.25  # standard deviation of the noise, of the image's range


@dataclass(frozen=True)
class Problem:
    """One run, ready to start.

    Attributes:
        engine: bound to the network, the objective and the targets.
        image: the starting image, preprocessed [1, 3, H, W].
        preprocessing: how ``image`` relates to RGB.
        alpha: [1, H, W], the content's, or None.
        variant: the preset with the run's overrides.
        parameters: every choice as it was resolved, ready for JSON.
    """

    engine: Engine
    image: Tensor
    preprocessing: Preprocessing
    alpha: Tensor | None
    variant: Preset
    parameters: Mapping[str, Any]

    @property
    def description(self) -> str:
        """What was chosen, in one line."""
        chosen = self.parameters
        return (
            f"{chosen['width']} x {chosen['height']} px, engine {chosen['engine']} "
            f"{chosen['precision']} on {chosen['device']}, weights {chosen['weights']}, "
            f"preset {chosen['preset']}, {chosen['optimizer']}"
        )

    def rgb(self, image: Tensor) -> Tensor:
        """Preprocessed [1, 3, H, W] -> [3, H, W] fp32 in [0, 1] on the CPU."""
        return self.preprocessing.invert(image.detach())[0].clamp(0, 1).float().cpu()


def pose(content: ImageSource, style: Styles, settings: Settings) -> Problem:
    """Load, resize and preprocess the images, build the network, capture the targets.

    Raises:
        ValueError: an image or weights that cannot be used, or a size too small for the layers.
    """
    variant = settings.variant()
    device = choose_device(settings.device)
    engine_name = choose_engine(settings, device)
    precision = PRECISIONS[choose_precision(settings, engine_name, device)]
    photo, paintings = load_image(content), [load_image(source) for source in _several(style)]
    blend = settings.blend(len(paintings))
    size = fit(photo.size, variant.size)
    style_sizes = [_style_size(each, size, variant, settings.style_scale) for each in paintings]
    for picture, wanted in zip([photo, *paintings], [size, *style_sizes], strict=True):
        _check_size(picture.name, wanted, variant)

    weights = load_weights(settings.weights)
    # The image and the optimizer are never narrower than fp32, whatever the engine computes in.
    entry = _Entry(weights.preprocessing, device, precision.wide)
    target = entry.tensor(photo, size)
    styles = [entry.tensor(*each) for each in zip(paintings, style_sizes, strict=True)]
    if variant.normalize:
        weights = normalized(weights, [target, *styles], variant.deepest_layer, variant.pooling)
    network = VGG19(weights, variant.deepest_layer, variant.pooling).to(device, precision.wide)
    weights_name, preprocessing = weights.name, weights.preprocessing
    del weights  # the network has those that it needs, and engines convert them
    engine = ENGINES[engine_name](
        network, variant.objective(*size), target, styles, blend, precision
    )
    resolved = {
        "width": size[1],
        "height": size[0],
        "style_weights": blend,
        "weights": weights_name,
        "engine": engine_name,
        "precision": precision.name,
        "device": str(device),
    }
    return Problem(
        engine=engine,
        image=_start(variant, settings.seed, size, target, paintings[0], entry),
        preprocessing=preprocessing,
        alpha=None if photo.alpha is None else resize(photo.alpha, size),
        variant=variant,
        parameters={**vars(settings), **vars(variant), **resolved},
    )


@dataclass(frozen=True)
class _Entry:
    """How a picture becomes the network's variable."""

    preprocessing: Preprocessing
    device: torch.device
    dtype: torch.dtype

    def tensor(self, picture: Picture, size: tuple[int, int]) -> Tensor:
        """[1, 3, H, W], resized to (height, width) and preprocessed."""
        return self.rgb(resize(picture.rgb, size)[None])

    def rgb(self, rgb: Tensor) -> Tensor:
        """RGB [1, 3, H, W], preprocessed."""
        return self.preprocessing.apply(rgb.to(self.device, self.dtype))


def _start(
    variant: Preset,
    seed: int,
    size: tuple[int, int],
    target: Tensor,
    painting: Picture,
    entry: _Entry,
) -> Tensor:
    """The starting image that ``variant.init`` names."""
    if variant.init == "content":
        return target.clone()
    if variant.init == "noise":
        return entry.rgb(_noise(size, seed))
    return entry.tensor(painting if variant.init == "style" else load_image(variant.init), size)


def _several(style: Styles) -> list[ImageSource]:
    if (
        isinstance(style, Iterable)
        and not isinstance(style, str | torch.Tensor)
        and not hasattr(style, "__array__")
    ):
        styles = list(style)
        if not styles:
            raise ValueError("no style image given: expected one or more")
        return styles
    return [style]  # type: ignore[list-item]  # whatever it is, load_image names it


def _style_size(
    painting: Picture, content: tuple[int, int], variant: Preset, scale: float
) -> tuple[int, int]:
    if variant.style_fit == "content":
        height, width = content
        return max(1, round(height * scale)), max(1, round(width * scale))
    return fit(painting.size, max(1, round(max(content) * scale)))


def _check_size(name: str, size: tuple[int, int], variant: Preset) -> None:
    smallest = variant.smallest_side
    if min(size) < smallest:
        raise ImageError(
            f"{name}: {size[1]} x {size[0]} px once resized is too small for "
            f"{variant.deepest_layer}: every side needs {smallest} px or more; raise the size"
        )


def _noise(size: tuple[int, int], seed: int) -> Tensor:
    """White noise around mid grey, [1, 3, H, W] RGB; from the CPU, so that no device changes it."""
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + _NOISE_SPREAD * torch.randn(1, 3, *size, generator=generator)

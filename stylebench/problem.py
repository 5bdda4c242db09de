"""From images and settings to everything that a run needs, on its device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from stylebench.engines import ENGINES, Engine
from stylebench.images import ImageError, ImageSource, Picture, fit, load_image, resize
from stylebench.network import VGG19, Preprocessing
from stylebench.normalise import normalised
from stylebench.objective import Preset
from stylebench.precision import PRECISIONS, multiplies_fp64
from stylebench.settings import Settings
from stylebench.weights import load_weights

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
    # The image and the optimiser are never narrower than fp32, whatever the engine computes in.
    entry = _Entry(weights.preprocessing, device, precision.wide)
    target = entry.tensor(photo, size)
    styles = [entry.tensor(*each) for each in zip(paintings, style_sizes, strict=True)]
    if variant.normalise:
        weights = normalised(weights, [target, *styles], variant.deepest_layer, variant.pooling)
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


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or else the best there is; ValueError where it is not to be had."""
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {str(device)!r} cannot be used here ({reason}); "
            "expected cpu, cuda, cuda:N or mps, as 'stylebench doctor' lists them"
        ) from error
    return chosen


def choose_engine(settings: Settings, device: torch.device) -> str:
    """The engine asked for; ``auto`` is the fastest that is right on ``device``."""
    if settings.engine != "auto":
        return settings.engine
    return "reference" if device.type == "mps" or settings.precision == "fp64" else "fused"


def choose_precision(settings: Settings, engine: str, device: torch.device) -> str:
    """The precision asked for, if the engine and the device have it.

    ``auto`` is fp16 on GPUs with tensor cores and bf16 on CPUs that multiply it, fp32 elsewhere:
    both are as fast, but fp16 has eight times the resolution, and rescaling gives it the range.

    Raises:
        ValueError: the engine does not offer the precision, or the device does not multiply it.
    """
    offered = ENGINES[engine].precisions
    wanted = settings.precision
    if wanted == "auto":
        wanted = "fp16" if multiplies_fp16(device) else "bf16" if multiplies_bf16(device) else ""
        return wanted if wanted in offered else offered[0]
    if wanted not in offered:
        raise ValueError(
            f"engine {engine!r} does not compute in {wanted}: expected one of {', '.join(offered)}"
        )
    if wanted == "fp64" and not multiplies_fp64(device):
        raise ValueError(
            f"fp64 is not to be had on {str(device)!r}: expected fp32 here, or device cpu"
        )
    if wanted == "tf32" and not multiplies_tf32(device):
        raise ValueError(
            f"tf32 needs a CUDA GPU of compute capability 8.0 or higher, and the device is "
            f"{str(device)!r}: expected fp32 here, or bf16 for speed"
        )
    return wanted


def multiplies_fp16(device: torch.device) -> bool:
    """Whether ``device`` is a GPU whose tensor cores multiply fp16."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def multiplies_tf32(device: torch.device) -> bool:
    """Whether ``device`` is a GPU whose tensor cores multiply TF32."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether ``device`` is a CPU that multiplies bf16 itself; else bf16 only slows down."""
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


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

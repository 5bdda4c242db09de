"""The choice of exponents for ``fp16_scaling``, from activations and gradients on a run's images.

fp16 overflows at 2^16 and loses bits below 2^-14. Every channel's largest activation is brought
below 2^6, a margin for the image's changes during the run, and the largest gradient below 2^10,
near the top, since gradients shrink by orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from math import frexp

import torch
from torch import Tensor

from stylebench.engines.fp16_scaling import Rescaling, convolution_of, equalized
from stylebench.model.losses import loss_terms, style_grams
from stylebench.model.objective import Objective
from stylebench.model.precision import Precision, exact_arithmetic
from stylebench.model.regions import Region, guidance_at, whole_picture
from stylebench.model.tiles import Tiling, tiled_features
from stylebench.model.vgg import VGG19

ACTIVATIONS_BELOW = 6  # exponent of two
GRADIENTS_BELOW = 10
_SPREAD = 2.0**10  # ratio of channels' largest activations up to which one exponent serves all
_RESOLUTION = 2.0**-11  # of fp16: a summand smaller than this part of a sum does not change it
_CROP = 512  # px per side, enough to find the largest gradients


def rescale_in_place(
    network: VGG19,
    objective: Objective,
    content: Tensor,
    styles: Sequence[Tensor],
    precision: Precision,
    tiling: Tiling | None = None,
    regions: Sequence[Region] = (),
) -> Rescaling:
    """Rescale ``network`` if ``precision`` needs it.

    Args:
        network: in fp32 or more; its weights are replaced.
        objective: as for ``calibrate``.
        content: likewise.
        styles: likewise.
        precision: whose ``rescaled`` decides.
        tiling: as for ``calibrate``.
        regions: likewise.

    Returns:
        The exponents, all zero for an unchanged network.
    """
    if not precision.rescaled:
        return Rescaling()
    rescaling = calibrate(network, objective, content, styles, tiling, regions)
    rescaling.apply(network)
    return rescaling


def calibrate(
    network: VGG19,
    objective: Objective,
    content: Tensor,
    styles: Sequence[Tensor],
    tiling: Tiling | None = None,
    regions: Sequence[Region] = (),
) -> Rescaling:
    """Choose exponents for ``network`` and ``objective``.

    The content image and noise stand for the images of a run. The noise is seeded: the same images
    give the same exponents.

    Args:
        network: in fp32 or more; it is not changed.
        objective: the layers of the losses, and their coefficients.
        content: preprocessed content image [1, 3, H, W].
        styles: preprocessed style images [1, 3, H', W'].
        tiling: tiles to find the largest activations in, which are the whole images' all the same.
        regions: parts of the picture with styles of their own; none: the whole has one style.
    """
    starts = [_cropped(content), _noise(content)]
    images = [content, *styles, starts[1]]
    largest = {}
    for name, by_filter in largest_activations(network, images, tiling).items():
        values, top = by_filter.tolist(), by_filter.max().item()
        largest[name] = [value or top for value in values]  # 0: the channel is zero everywhere
    tapped = {convolution_of(layer) for layer in objective.taps}
    uniform = {name for name in tapped if _spread(network, name, largest) < _SPREAD}
    rescaling = Rescaling(
        image=_exponent(max(x.abs().amax().item() for x in images)),
        channels={
            name: (_exponent(max(values)),) * len(values)
            if name in uniform
            else tuple(map(_exponent, values))
            for name, values in largest.items()
        },
    )
    # S = (4 k / M) (G - A): on a crop, with fewer positions M, style gradients would be larger
    share = starts[0][0, 0].numel() / content[0, 0].numel()
    on_crop = replace(objective, style={name: k * share for name, k in objective.style.items()})
    crops = [_cropped(style) for style in styles]
    parts = [_cropped_region(region) for region in regions]
    steepest = max(gradient_ranges(network, on_crop, rescaling, starts, crops, parts).values())
    return replace(rescaling, loss=GRADIENTS_BELOW - frexp(steepest)[1] if steepest else 0)


@torch.no_grad()
def largest_activations(
    network: VGG19, images: Sequence[Tensor], tiling: Tiling | None = None
) -> dict[str, Tensor]:
    """Convolution name -> each filter's largest |activation| before ReLU, [N] on the CPU.

    The maximum is over all positions of all ``images``, preprocessed [1, 3, H, W] of any sizes. It
    is taken before ReLU, so that a filter that ReLU silences on these images has a scale too.
    """
    largest: dict[str, Tensor] = {}
    with exact_arithmetic():
        for image in images:
            for name, x in tiled_features(network, image, tiling):
                if name.startswith("conv"):
                    by_filter = x.abs().amax(dim=(0, 2, 3)).cpu()  # [1, N, H, W] -> [N]
                    largest[name] = torch.maximum(by_filter, largest.get(name, by_filter))
    return largest


def gradient_ranges(
    network: VGG19,
    objective: Objective,
    rescaling: Rescaling,
    images: Sequence[Tensor],
    styles: Sequence[Tensor],
    regions: Sequence[Region] = (),
) -> dict[str, float]:
    """Layer or ``image`` -> largest |gradient| of the rescaled loss with respect to it.

    Args:
        network: not rescaled; it is not changed.
        objective: not rescaled either.
        rescaling: the exponents for both.
        images: images [1, 3, H, W] to take the gradient at; the first is the content image.
        styles: style images [1, 3, H', W'], each the only target of a gradient.
        regions: of the images; each has that style in its part of it.
    """
    network, objective = deepcopy(network), replace(rescaling.objective(objective), tv=0.0)
    rescaling.apply(network)
    content, *_ = images = [rescaling.scale_input(image) for image in images]
    largest = dict.fromkeys(("image", *network.layers), 0.0)

    def record(name: str, gradient: Tensor) -> None:
        largest[name] = max(largest[name], gradient.abs().amax().item())

    def equalize(layer: str, F: Tensor) -> Tensor:
        return equalized(F, rescaling.channel_scale(layer, F))

    for index, style in enumerate(styles if objective.taps else []):
        alone = [replace(region, style_weights=_only(index, styles)) for region in regions]
        targets = alone or [whole_picture(_only(index, styles))]
        with exact_arithmetic():
            with torch.no_grad():
                P = {
                    layer: equalize(layer, F)
                    for layer, F in network(content, objective.content).items()
                }
                style_features = network(rescaling.scale_input(style), objective.style)
                A = {
                    layer: style_grams(equalize(layer, F), index, layer, targets)
                    for layer, F in style_features.items()
                }
                T = guidance_at(targets, objective.style)
            for image in images:
                x = start = image.detach().requires_grad_()
                features = {}
                for name, layer in network.layers.items():
                    x = layer(x)
                    x.register_hook(partial(record, name))
                    if name in objective.taps:
                        features[name] = equalize(name, x)
                terms = loss_terms(start, features, objective, P, A, T)
                record("image", *torch.autograd.grad(terms.sum(), start))
    return largest


def _exponent(largest: float) -> int:
    """The e for which ``largest`` times 2^-e is in [2^5, 2^6)."""
    return frexp(largest)[1] - ACTIVATIONS_BELOW if largest else 0


def _spread(network: VGG19, name: str, largest: Mapping[str, Sequence[float]]) -> float:
    """Ratio of the largest to the smallest channel of convolution ``name``.

    Channels too small to change the next convolution's outputs in fp16 do not count.

    Args:
        network: not rescaled.
        name: the convolution.
        largest: convolution -> largest |activation| of each channel, in the network's order.
    """
    top, names = max(largest[name]), list(largest)
    following = names[names.index(name) + 1 :][:1]
    if not following or not top:
        return 1.0
    weight = network.get_parameter(f"layers.{following[0]}.weight")
    outputs, inputs = (
        torch.tensor(largest[convolution], dtype=torch.float64)
        for convolution in (following[0], name)
    )
    # [N_out, N_in]: the largest part of output i that input j contributes at one position
    share = weight.detach().cpu().double().abs().amax(dim=(2, 3)) * inputs / outputs[:, None]
    used = share.amax(dim=0) > _RESOLUTION
    return top / inputs[used].min().item() if used.any() else 1.0


def _cropped(image: Tensor) -> Tensor:
    """The middle of ``image`` [1, 3, H, W], at most 512 px per side."""
    top, left = (max(0, side - _CROP) // 2 for side in image.shape[2:])
    return image[..., top : top + _CROP, left : left + _CROP]


def _cropped_region(region: Region) -> Region:
    """The region in the middle of all images; a style without a part of it there counts whole."""
    content = None if region.content is None else _cropped(region.content)
    styles = [None if mask is None else _cropped(mask) for mask in region.styles]
    styles = [None if mask is None or not mask.any() else mask for mask in styles]
    return replace(region, content=content, styles=styles)


def _only(index: int, styles: Sequence[Tensor]) -> list[float]:
    """Weights of style images, of which one counts."""
    return [float(number == index) for number in range(len(styles))]


def _noise(content: Tensor) -> Tensor:
    """White noise with the content's mean and standard deviation, of its crop's size."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(_cropped(content).shape, generator=generator).to(content)
    return content.mean() + content.std() * noise

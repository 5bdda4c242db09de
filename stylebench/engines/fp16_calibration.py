"""Exponents for ``stylebench.engines.fp16_scaling``, by what a network does with the images of a run.

fp16 ends at 2^16 and loses bits below 2^-14. Every channel's largest activation is brought below
2^6, since the image changes during the run, and the largest gradient below 2^10, since gradients
shrink by orders of magnitude.
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
from stylebench.model.losses import gram, loss_terms
from stylebench.model.objective import Objective
from stylebench.model.precision import Precision, exact_arithmetic
from stylebench.model.vgg import VGG19

ACTIVATIONS_BELOW = 6  # exponent of two
GRADIENTS_BELOW = 10
_SPREAD = 2.0**10  # between channels; fp16 has the room for one exponent up to here
_HEARD = 2.0**-11  # fp16's resolution: what adds less than this to every sum is not heard
_CROP = 512  # px of a side, enough to see how large gradients are


def rescaled(
    network: VGG19,
    objective: Objective,
    content: Tensor,
    styles: Sequence[Tensor],
    precision: Precision,
) -> Rescaling:
    """Rescale ``network`` in place if ``precision`` needs it; return what was done to it.

    The arguments are those of ``calibrate``.
    """
    if not precision.rescaled:
        return Rescaling()
    rescaling = calibrate(network, objective, content, styles)
    rescaling.apply(network)
    return rescaling


def calibrate(
    network: VGG19, objective: Objective, content: Tensor, styles: Sequence[Tensor]
) -> Rescaling:
    """Choose exponents for ``network`` and ``objective``.

    The image is thought to start at the content or at noise. The noise is seeded: the same images
    give the same exponents.

    Args:
        network: in fp32 or more; it is left as it is.
        objective: where losses are taken, and with what coefficients.
        content: preprocessed content image [1, 3, H, W].
        styles: preprocessed style images [1, 3, H', W'].
    """
    starts = [_cropped(content), _noise(content)]
    seen = [content, *styles, starts[1]]
    largest = {
        name: [value or max(values) for value in values]  # a channel that is zero everywhere
        for name, values in largest_activations(network, seen).items()
    }
    tapped = {convolution_of(layer) for layer in objective.taps}
    even = {name for name in tapped if _spread(network, name, largest) < _SPREAD}
    rescaling = Rescaling(
        image=_exponent(max(x.abs().amax().item() for x in seen)),
        channels={
            name: tuple(_exponent(max(values) if name in even else value) for value in values)
            for name, values in largest.items()
        },
    )
    # S = (4 k / M) (G - A): fewer positions M count for more
    share = starts[0][0, 0].numel() / content[0, 0].numel()
    smaller = replace(objective, style={name: k * share for name, k in objective.style.items()})
    crops = [_cropped(style) for style in styles]
    steepest = max(gradient_ranges(network, smaller, rescaling, starts, crops).values())
    return replace(rescaling, loss=GRADIENTS_BELOW - frexp(steepest)[1] if steepest else 0)


@torch.no_grad()
def largest_activations(network: VGG19, images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Convolution name -> each filter's largest |activation| before ReLU, [N] on the CPU.

    The maximum runs over all positions of all ``images``, preprocessed [1, 3, H, W] of any sizes.
    Before ReLU, so that a filter that is silent on these images has a scale too.
    """
    largest: dict[str, Tensor] = {}
    with exact_arithmetic():
        for x in images:
            for name, layer in network.layers.items():  # one layer's features at a time in memory
                x = layer(x)
                if name.startswith("conv"):
                    here = x.abs().amax(dim=(0, 2, 3)).cpu()
                    largest[name] = torch.maximum(here, largest.get(name, here))
    return largest


def gradient_ranges(
    network: VGG19,
    objective: Objective,
    rescaling: Rescaling,
    images: Sequence[Tensor],
    styles: Sequence[Tensor],
) -> dict[str, float]:
    """Layer, or ``image`` -> largest |gradient| of the rescaled loss with respect to it.

    Args:
        network: not rescaled; it is left as it is.
        objective: likewise.
        rescaling: what to do to both.
        images: images [1, 3, H, W] to take the gradient at; the first is the content.
        styles: style images, each on its own.
    """
    network, objective = deepcopy(network), replace(rescaling.objective(objective), tv=0.0)
    rescaling.apply(network)
    content, *_ = images = [rescaling.scale_input(image) for image in images]
    largest = dict.fromkeys(("image", *network.layers), 0.0)

    def record(name: str, gradient: Tensor) -> None:
        largest[name] = max(largest[name], gradient.abs().amax().item())

    def even(layer: str, F: Tensor) -> Tensor:
        return equalized(F, rescaling.channel_scale(layer, F))

    for style in styles if objective.taps else []:
        with exact_arithmetic():
            with torch.no_grad():
                P = {n: even(n, F) for n, F in network(content, objective.content).items()}
                seen = network(rescaling.scale_input(style), objective.style)
                A = {n: gram(even(n, F)) for n, F in seen.items()}
            for image in images:
                x = start = image.detach().requires_grad_()
                features = {}
                for name, layer in network.layers.items():
                    x = layer(x)
                    x.register_hook(partial(record, name))
                    if name in objective.taps:
                        features[name] = even(name, x)
                terms = loss_terms(start, features, objective, P, A)
                record("image", *torch.autograd.grad(terms.sum(), start))
    return largest


def _exponent(largest: float) -> int:
    """What brings ``largest`` into [2^5, 2^6)."""
    return frexp(largest)[1] - ACTIVATIONS_BELOW if largest else 0


def _spread(network: VGG19, name: str, largest: Mapping[str, Sequence[float]]) -> float:
    """How far apart the channels of a convolution lie, of those that the next one makes use of."""
    top, names = max(largest[name]), list(largest)
    following = names[names.index(name) + 1 :][:1]
    if not following or not top:
        return 1.0
    weight = network.get_parameter(f"layers.{following[0]}.weight")
    outputs, inputs = (
        torch.tensor(largest[each], dtype=torch.float64) for each in (following[0], name)
    )
    share = weight.detach().cpu().double().abs().amax(dim=(2, 3)) * inputs / outputs[:, None]
    used = share.amax(dim=0) > _HEARD
    return top / inputs[used].min().item() if used.any() else 1.0


def _cropped(image: Tensor) -> Tensor:
    """The middle of ``image``."""
    top, left = (max(0, side - _CROP) // 2 for side in image.shape[2:])
    return image[..., top : top + _CROP, left : left + _CROP]


def _noise(content: Tensor) -> Tensor:
    """White noise of the content's mean and deviation, of the size of its crop."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(_cropped(content).shape, generator=generator).to(content)
    return content.mean() + content.std() * noise

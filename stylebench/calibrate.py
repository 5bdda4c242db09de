"""Exponents for ``stylebench.rescale``, by what a network does with the images of a run.

fp16 ends at 2^16 and loses bits below 2^-14. Every channel's largest activation is brought below
2^6, since the image changes during the run, and the largest gradient below 2^10, since gradients
shrink by orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from math import frexp

import torch
from torch import Tensor

from stylebench.losses import gram, loss_terms
from stylebench.network import VGG19
from stylebench.objective import Objective
from stylebench.precision import exact_arithmetic
from stylebench.rescale import Rescaling, convolution_of

ACTIVATIONS_BELOW = 6  # exponent of two
GRADIENTS_BELOW = 10
_CROP = 512  # px of a side, enough to see how large gradients are


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
    tapped = {convolution_of(layer) for layer in objective.taps}
    rescaling = Rescaling(
        image=_exponents([max(x.abs().amax().item() for x in seen)], uniform=True)[0],
        channels={
            name: _exponents(channels.tolist(), uniform=name in tapped)
            for name, channels in largest_activations(network, seen).items()
        },
    )
    # S = (4 k / M) (G - A): fewer positions M count for more
    share = starts[0][0, 0].numel() / content[0, 0].numel()
    smaller = replace(objective, style={name: k * share for name, k in objective.style.items()})
    crops = [_cropped(style) for style in styles]
    largest = max(gradient_ranges(network, smaller, rescaling, starts, crops).values())
    return replace(rescaling, loss=GRADIENTS_BELOW - frexp(largest)[1] if largest else 0)


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
                x = layer(x)  # noqa: PLW2901
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
    network, objective = deepcopy(network), rescaling.objective(objective)
    rescaling.apply(network)
    content, *_ = images = [rescaling.enter(image) for image in images]
    largest = dict.fromkeys(("image", *network.layers), 0.0)

    def watch(name: str, x: Tensor) -> Tensor:
        def record(gradient: Tensor) -> None:
            largest[name] = max(largest[name], gradient.abs().amax().item())

        x.requires_grad_().register_hook(record)
        return x

    for style in styles if objective.taps else []:
        with exact_arithmetic():
            with torch.no_grad():
                P = network(content, objective.content)
                A = {
                    layer: gram(F)
                    for layer, F in network(rescaling.enter(style), objective.style).items()
                }
            for image in images:
                x = watch("image", image.detach())
                features = {}
                for name, layer in network.layers.items():
                    x = watch(name, layer(x))
                    if name in objective.taps:
                        features[name] = x
                loss_terms(x, features, replace(objective, tv=0.0), P, A).sum().backward()
    return largest


def _exponents(largest: Sequence[float], uniform: bool) -> tuple[int, ...]:
    """What brings each of ``largest`` into [2^5, 2^6), or with ``uniform`` the largest of them.

    A channel that is zero everywhere goes with the largest: its weights then stay in range too.
    """
    top = max(largest)
    if not top:
        return (0,) * len(largest)
    chosen = (top if uniform else value or top for value in largest)
    return tuple(frexp(value)[1] - ACTIVATIONS_BELOW for value in chosen)


def _cropped(image: Tensor) -> Tensor:
    """The middle of ``image``."""
    top, left = (max(0, side - _CROP) // 2 for side in image.shape[2:])
    return image[..., top : top + _CROP, left : left + _CROP]


def _noise(content: Tensor) -> Tensor:
    """White noise of the content's mean and deviation, of the size of its crop."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(_cropped(content).shape, generator=generator).to(content)
    return content.mean() + content.std() * noise

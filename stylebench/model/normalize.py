"""The paper's normalized network: every filter's mean activation is 1, the function unchanged.

arXiv 1508.06576, "Methods": the weights are rescaled so that the mean activation of each filter
over images and positions is one. The network keeps its function when channel j of a layer is
divided by s_j > 0 and the next layer's input j is multiplied by s_j: ReLU and both poolings commute
with a positive factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from stylebench.model.precision import exact_arithmetic, in_fp64
from stylebench.model.tiles import Tiling, tiled_features, unit_of
from stylebench.model.vgg import CONVOLUTIONS, VGG19, Pooling, Weights
from stylebench.processes.bands import bands_of
from stylebench.processes.ranks import ALONE, Ranks


@torch.no_grad()
def mean_activations(
    network: VGG19,
    images: Sequence[Tensor],
    tiling: Tiling | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Tensor]:
    """Convolution name -> each filter's mean activation after ReLU [N], fp64.

    The mean runs over all positions of all ``images``, preprocessed [1, 3, H, W] of any sizes.
    """
    sums: dict[str, Tensor] = {}
    positions: dict[str, int] = {}
    with exact_arithmetic():
        for image in images:
            split = bands_of(ranks, image.shape[2], unit_of(network.layers)).ranks is ranks
            if not (split or ranks.first):  # every rank has all of it, and it counts once
                continue
            for relu, F in tiled_features(network, image, tiling, ranks):
                if relu.startswith("relu"):
                    name = relu.replace("relu", "conv")
                    sums[name] = sums.get(name, 0) + in_fp64(F).sum(dim=(0, 2, 3))
                    positions[name] = positions.get(name, 0) + F[:, 0].numel()
    if not ranks.alone:
        for name, total in sums.items():
            numbers = torch.cat([total, total.new_tensor([positions[name]])])
            *_, positions[name] = (numbers := ranks.sum(numbers)).tolist()
            sums[name] = numbers[:-1]
    return {name: total / positions[name] for name, total in sums.items()}


def normalized(
    weights: Weights,
    images: Sequence[Tensor],
    until: str,
    pooling: Pooling = "average",
    tiling: Tiling | None = None,
    ranks: Ranks = ALONE,
    floor: float = 0.0,
) -> Weights:
    """Rescale ``weights`` so that every filter up to ``until`` has mean activation 1 on ``images``.

    Args:
        weights: the network to rescale; it is not changed.
        images: preprocessed images [1, 3, H, W] to take the means over, on any one device.
        until: the deepest layer to rescale.
        pooling: the pooling to take the means with; it changes them, not the equivalence.
        tiling: tiles to take the means in, which are the whole images' all the same.
        ranks: who take them together.
        floor: of a layer's mean activation, the part that a filter's is taken for at least. A
            filter that is all but silent on these images may be none on the picture that is made.

    Returns:
        Weights of the same dtype. A filter that is silent on all images keeps its scale, where
        there is no floor.
    """
    network = VGG19(weights, until, pooling).to(images[0])
    means = mean_activations(network, images, tiling, ranks)
    layers = {}
    incoming = torch.ones(3, dtype=torch.float64)
    for name in CONVOLUTIONS:
        weight, bias = weights.layers[name]
        scale = torch.ones(len(bias), dtype=torch.float64)
        if name in means:
            mean = means[name].cpu()
            mean = mean.clamp(min=floor * mean.mean().item())
            scale = torch.where(mean > 0, mean, scale)
        rescaled = weight.double() * incoming.view(1, -1, 1, 1) / scale.view(-1, 1, 1, 1)
        layers[name] = (rescaled.to(weight), (bias.double() / scale).to(bias))
        incoming = scale
    return replace(weights, name=f"{weights.name}, normalized", layers=layers)

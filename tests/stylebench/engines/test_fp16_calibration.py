"""Exponents are chosen so that fp16 stays finite and right, whatever the weights are."""

from dataclasses import replace
from math import isnan

import pytest
import torch

from stylebench.engines import Compiled, Eager, Fused, Reference
from stylebench.engines.fp16_calibration import (
    ACTIVATIONS_BELOW,
    GRADIENTS_BELOW,
    calibrate,
    gradient_ranges,
    largest_activations,
)
from stylebench.engines.fp16_scaling import convolution_of
from stylebench.model.normalize import normalized
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import PRESETS
from stylebench.model.vgg import CAFFE, VGG19
from stylebench.parity.errors import deviation

from .scaled import FP16, NOT_RESCALED, SIDE, build, evaluate, images


def exact(weights, preset):
    return evaluate(Reference, doubled(weights), preset, PRECISIONS["fp64"])


def doubled(weights):
    """The same weights in fp64."""
    layers = {name: (w.double(), b.double()) for name, (w, b) in weights.layers.items()}
    return replace(weights, layers=layers)


def spread(weights, decades, *, preserving, seed=1):
    """Channels' scales drawn from 10^-decades to 10^decades.

    ``preserving`` gives them back in the next layer, so that only the losses see them; otherwise
    the network is another one, of the same gain.
    """
    generator = torch.Generator().manual_seed(seed)
    layers, incoming = {}, torch.ones(3, dtype=torch.float64)
    for name, (weight, bias) in weights.layers.items():
        drawn = torch.rand(len(bias), generator=generator, dtype=torch.float64)
        scale = 10 ** ((2 * drawn - 1) * decades)
        if not preserving:
            scale /= scale.square().mean().sqrt()
        scaled = weight.double() * scale.view(-1, 1, 1, 1) / incoming.view(1, -1, 1, 1)
        layers[name] = (scaled.float(), (bias.double() * scale).float())
        incoming = scale if preserving else torch.ones_like(scale)
    return replace(weights, layers=layers)


def louder(weights, factor):
    weight, bias = weights.layers["conv1_1"]
    return replace(weights, layers={**weights.layers, "conv1_1": (weight * factor, bias * factor)})


STRESS = {
    "as they are": lambda weights: weights,
    "0 to 255": lambda weights: replace(louder(weights, 1 / 64), preprocessing=CAFFE),
    "normalized": lambda weights: normalized(
        weights, [image.float() for image in images(weights)[:3]], "relu5_1", "max"
    ),
    "loud": lambda weights: louder(weights, 1e4),
    "quiet": lambda weights: louder(weights, 1e-6),
    "spread": lambda weights: spread(weights, 3, preserving=False),
    "spread and gathered": lambda weights: spread(weights, 3, preserving=True),
}


# Errors of loss and gradient, the middle one of three images: twice what was measured, 1.6e-4 and
# 4.7e-3. The gradient of a quiet network is the content's alone (1.8e-2); a normalized one is
# ill-conditioned, since filters that are nearly silent become loud (5.5e-3 and 3.0e-2).
BOUND = (3.5e-4, 1e-2)
BOUNDS = {"normalized": (1.1e-2, 6e-2), "quiet": (3.5e-4, 4e-2)}


def at_three(engine, weights, preset, precision):
    """Loss terms and gradient at three images: a few ReLUs that flip make one a matter of luck."""
    bound, image = build(engine, weights, preset, precision)
    content, first, *_ = (each.to(image) for each in images(weights))
    found = [bound.loss_and_grad(x) for x in (image, (content + image) / 2, (first + image) / 2)]
    return [(terms.values.double(), gradient.double()) for terms, gradient in found]


@pytest.mark.parametrize("preset", ["gatys-pytorch", "pytorch-tutorial"])
@pytest.mark.parametrize("case", STRESS)
def test_fp16_is_finite_and_right_under_stress(weights, case, preset):
    chosen = replace(PRESETS[preset], pooling="average")
    stressed = STRESS[case](weights)
    oracles = at_three(Reference, doubled(stressed), chosen, PRECISIONS["fp64"])

    def typical(engine, precision):
        found = at_three(engine, stressed, chosen, precision)
        each = [deviation(*pair) for pair in zip(found, oracles, strict=True)]
        return [sorted(column)[1] for column in zip(*each, strict=True)]

    loss, slope = typical(Fused, FP16)
    bound = BOUNDS.get(case, BOUND)
    assert loss <= bound[0]
    assert slope <= bound[1]
    _, yardstick = typical(Eager, FP16)
    assert slope <= 2 * yardstick
    _, unaided = typical(Eager, NOT_RESCALED)
    assert slope <= 2 * unaided or isnan(unaided)


@pytest.mark.parametrize("case", ["loud", "quiet", "spread and gathered"])
def test_without_rescaling_fp16_is_lost(weights, case):
    """The stress bites: what rescaling holds to a percent is NaN, or not a gradient at all."""
    chosen = replace(PRESETS["gatys-pytorch"], pooling="average")
    stressed = STRESS[case](weights)
    _, slope = deviation(evaluate(Fused, stressed, chosen, NOT_RESCALED), exact(stressed, chosen))
    assert isnan(slope) or slope > 0.9


@pytest.mark.parametrize("case", ["as they are", "0 to 255", "spread", "spread and gathered"])
def test_calibration_puts_everything_where_it_says(weights, case):
    preset = replace(PRESETS["gatys-pytorch"], pooling="average")
    stressed = STRESS[case](weights)
    content, *styles, _ = (each.float() for each in images(stressed))
    network = VGG19(stressed, preset.deepest_layer, "average")
    objective = preset.objective(SIDE, SIDE)
    rescaling = calibrate(network, objective, content, styles)
    assert rescaling == calibrate(network, objective, content, styles)
    top = 2.0**ACTIVATIONS_BELOW
    for name, largest in largest_activations(network, [content, *styles]).items():
        found = largest * torch.tensor([2.0**-e for e in rescaling.channels[name]])
        assert found.max() < top
        if name not in {convolution_of(layer) for layer in preset.taps}:
            assert found.min() > top / 16  # half of it, but for what only the noise reaches
    ranges = gradient_ranges(network, objective, rescaling, [content], styles)
    assert max(ranges.values()) < 2.0**GRADIENTS_BELOW
    assert min(ranges.values()) > 2.0**-14  # the largest of each layer: fp16's normal numbers


def test_one_exponent_serves_a_loss_unless_channels_lie_far_apart(weights):
    preset = replace(PRESETS["gatys-pytorch"], pooling="average")
    for case, several in (("as they are", False), ("spread and gathered", True)):
        bound, image = build(Fused, STRESS[case](weights), preset, FP16)
        factors = bound.rescaling.channel_scale("relu2_1", image)
        assert (factors is not None) == several
        assert bound.rescaling.channel_scale("relu1_2", image) is not None  # no loss is taken there


def test_a_dead_channel_is_harmless(weights):
    layers = dict(weights.layers)
    weight, bias = layers["conv2_1"][0].clone(), layers["conv2_1"][1].clone()
    weight[:3], bias[:3] = 0.0, 0.0
    weight[3], bias[3] = 1e-30, -1e-30
    layers["conv2_1"] = (weight, bias)
    dead = replace(weights, layers=layers)
    preset = replace(PRESETS["gatys-pytorch"], pooling="average")
    found = evaluate(Fused, dead, preset, FP16)
    assert deviation(found, exact(dead, preset))[1] < BOUND[1]
    bound, image = build(Fused, dead, preset, FP16)
    assert bound.rescaling.channel_scale("relu2_1", image) is None  # nobody hears them


def test_an_overflow_during_the_run_is_seen(weights):
    bound, image = build(Fused, weights, PRESETS["gatys-pytorch"], FP16)
    assert bound.loss_and_grad(image)[1].isfinite().all()
    terms, gradient = bound.loss_and_grad(image * 1e5)
    assert not (terms.values.isfinite().all() and gradient.isfinite().all())


def test_compiled_is_rescaled_without_graph_breaks(weights):
    preset = replace(PRESETS["gatys-pytorch"], pooling="average")
    stressed = STRESS["spread and gathered"](weights)
    oracle = exact(stressed, preset)
    torch._dynamo.utils.counters.clear()
    _, slope = deviation(evaluate(Compiled, stressed, preset, FP16), oracle)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert slope <= BOUND[1]

"""The exponents chosen for fp16 keep it finite and accurate, whatever the weights are."""

from dataclasses import replace
from functools import cache
from math import isnan
from statistics import median

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

from .problems import (
    SHALLOW,
    SHALLOWEST,
    build,
    evaluate,
    in_fp64,
    loss_error,
    random_images,
    relative_error,
    result_at,
)

FP16 = PRECISIONS["fp16"]
NOT_RESCALED = replace(FP16, rescaled=False)
AVERAGE = replace(SHALLOW, pooling="average")
WHOLE = replace(PRESETS["gatys-pytorch"], pooling="average")
#: Presets with average pooling: a shallow network, and, marked slow, those of published presets.
PRESET_CASES = [
    pytest.param(AVERAGE, id="shallow"),
    pytest.param(WHOLE, id="gatys-pytorch", marks=pytest.mark.slow),
]


def calibration_images(weights, preset):
    """32 px for a shallow network, 48 px, which bounds were measured at, for the others."""
    side = 32 if preset is AVERAGE else 48
    return random_images(weights, side, side)


def errors_of(result, exact):
    """Errors of (loss terms, gradient), relative to the loss and the gradient's norm."""
    return loss_error(result[0], exact[0]), relative_error(result[1], exact[1])


def exact(weights, preset):
    images = calibration_images(weights, preset)
    return evaluate(Reference, in_fp64(weights), preset, "fp64", images)


def spread(weights, decades, *, preserving, seed=1):
    """Weights whose channels' scales are drawn from 10^-decades to 10^decades.

    With ``preserving`` the next layer undoes them, so that they matter to the losses only.
    Without, the network has another function and the same gain.
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
    """Weights whose activations are ``factor`` times as large."""
    weight, bias = weights.layers["conv1_1"]
    return replace(weights, layers={**weights.layers, "conv1_1": (weight * factor, bias * factor)})


STRESS = {
    "as they are": lambda weights: weights,
    "0 to 255": lambda weights: replace(louder(weights, 1 / 64), preprocessing=CAFFE),
    "normalized": lambda weights: normalized(
        weights, [x.float() for x in random_images(weights, 48, 48)[:3]], "relu5_1", "max"
    ),
    "loud": lambda weights: louder(weights, 1e4),
    "quiet": lambda weights: louder(weights, 1e-6),
    "spread": lambda weights: spread(weights, 3, preserving=False),
    "spread and gathered": lambda weights: spread(weights, 3, preserving=True),
}


#: The cases that fp16 cannot compute without rescaling; the others are slow tests.
LOST_WITHOUT_RESCALING = ("loud", "quiet", "spread and gathered")


@pytest.fixture(scope="module")
def stressed(weights):
    """A case's name -> its weights."""
    return cache(lambda case: STRESS[case](weights))


# Errors of loss and gradient, the median over images: twice what was measured, 1.6e-4 and
# 4.7e-3. The gradient of a quiet network is the content's alone (1.8e-2); a normalized one is
# ill-conditioned, since filters that are nearly silent become loud (5.5e-3 and 3.0e-2).
BOUND = (3.5e-4, 1e-2)
BOUNDS = {"normalized": (1.1e-2, 6e-2), "quiet": (3.5e-4, 4e-2)}


def results_at_points(engine, weights, preset, precision):
    """Loss terms and gradient at several images: few ReLUs that flip make one a matter of luck.

    Three images, and seven for a shallow network, whose small maps flip fewer ReLUs.
    """
    images = calibration_images(weights, preset)
    bound, image = build(engine, weights, preset, precision, images)
    content, style = (x.to(image) for x in images[:2])
    points = [image, (content + image) / 2, (style + image) / 2]
    if preset is AVERAGE:
        points += [torch.lerp(image, content, part) for part in (0.1, 0.2, 0.3, 0.7)]
    return [result_at(bound, point) for point in points]


@pytest.mark.parametrize(
    "preset",
    [
        *PRESET_CASES,
        pytest.param(
            replace(PRESETS["pytorch-tutorial"], pooling="average"),
            id="pytorch-tutorial",
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.parametrize(
    "case",
    [
        case if case in LOST_WITHOUT_RESCALING else pytest.param(case, marks=pytest.mark.slow)
        for case in STRESS
    ],
)
def test_fp16_is_finite_and_accurate_under_stress(stressed, case, preset):
    weights = stressed(case)
    oracles = results_at_points(Reference, in_fp64(weights), preset, "fp64")

    def median_errors(engine, precision):
        results = results_at_points(engine, weights, preset, precision)
        errors = [errors_of(*pair) for pair in zip(results, oracles, strict=True)]
        return [median(column) for column in zip(*errors, strict=True)]

    loss, gradient = median_errors(Fused, FP16)
    bound = BOUNDS.get(case, BOUND)
    assert loss <= bound[0]
    assert gradient <= bound[1]
    _, eager = median_errors(Eager, FP16)
    assert gradient <= 2 * eager
    if case not in LOST_WITHOUT_RESCALING:  # which the next test shows
        _, not_rescaled = median_errors(Eager, NOT_RESCALED)
        assert gradient <= 2 * not_rescaled or isnan(not_rescaled)


@pytest.mark.parametrize("preset", PRESET_CASES)
@pytest.mark.parametrize("case", LOST_WITHOUT_RESCALING)
def test_without_rescaling_fp16_fails(stressed, case, preset):
    """The stress bites: without rescaling the gradient is NaN, or as far off as it is large."""
    weights = stressed(case)
    result = evaluate(Fused, weights, preset, NOT_RESCALED, calibration_images(weights, preset))
    _, gradient = errors_of(result, exact(weights, preset))
    assert isnan(gradient) or gradient > 0.9


@pytest.mark.parametrize("preset", PRESET_CASES)
@pytest.mark.parametrize("case", ["as they are", "0 to 255", "spread", "spread and gathered"])
def test_calibration_keeps_its_bounds(stressed, case, preset):
    weights = stressed(case)
    content, *styles, _ = (x.float() for x in calibration_images(weights, preset))
    network = VGG19(weights, preset.deepest_layer, "average")
    objective = preset.objective(*content.shape[2:])
    rescaling = calibrate(network, objective, content, styles)
    assert rescaling == calibrate(network, objective, content, styles)
    top = 2.0**ACTIVATIONS_BELOW
    tapped = {convolution_of(layer) for layer in preset.taps}
    for name, largest in largest_activations(network, [content, *styles]).items():
        rescaled = largest * torch.tensor([2.0**-e for e in rescaling.channels[name]])
        assert rescaled.max() < top
        if name not in tapped:
            assert rescaled.min() > top / 16  # half of it, but for what only the noise reaches
    ranges = gradient_ranges(network, objective, rescaling, [content], styles)
    assert max(ranges.values()) < 2.0**GRADIENTS_BELOW
    assert min(ranges.values()) > 2.0**-14  # the largest of each layer: fp16's normal numbers


def test_one_exponent_serves_a_loss_unless_channels_lie_far_apart(stressed):
    for case, several in (("as they are", False), ("spread and gathered", True)):
        weights = stressed(case)
        engine, image = build(Fused, weights, AVERAGE, FP16, calibration_images(weights, AVERAGE))
        scale = engine.rescaling.channel_scale("relu2_1", image)
        assert (scale is not None) == several
        # no loss is taken at relu1_2
        assert engine.rescaling.channel_scale("relu1_2", image) is not None


def test_a_dead_channel_is_harmless(weights):
    layers = dict(weights.layers)
    weight, bias = layers["conv2_1"][0].clone(), layers["conv2_1"][1].clone()
    weight[:3], bias[:3] = 0.0, 0.0
    weight[3], bias[3] = 1e-30, -1e-30
    layers["conv2_1"] = (weight, bias)
    dead = replace(weights, layers=layers)
    engine, image = build(Fused, dead, AVERAGE, FP16, calibration_images(dead, AVERAGE))
    assert errors_of(result_at(engine, image), exact(dead, AVERAGE))[1] < BOUND[1]
    # no loss changes by them, so they need no exponents of their own
    assert engine.rescaling.channel_scale("relu2_1", image) is None


def test_an_overflow_during_the_run_is_seen(weights):
    engine, image = build(Fused, weights, SHALLOW, FP16, random_images(weights))
    assert engine.loss_and_grad(image)[1].isfinite().all()
    terms, gradient = engine.loss_and_grad(image * 1e5)
    assert not (terms.values.isfinite().all() and gradient.isfinite().all())


@pytest.mark.parametrize(
    ("backend", "preset"),
    [
        pytest.param("aot_eager", AVERAGE, id="aot_eager"),
        pytest.param(
            "inductor", replace(SHALLOWEST, pooling="average"), id="inductor",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_compiled_is_rescaled_without_graph_breaks(stressed, monkeypatch, backend, preset):
    monkeypatch.setattr(Compiled, "backend", backend)
    weights = stressed("spread and gathered")
    torch._dynamo.utils.counters.clear()
    images = random_images(weights, 32, 32)
    result = evaluate(Compiled, weights, preset, FP16, images)
    assert not torch._dynamo.utils.counters["graph_break"]
    oracle = evaluate(Reference, in_fp64(weights), preset, "fp64", images)
    assert errors_of(result, oracle)[1] <= BOUND[1]

"""Rescaling by powers of two changes no bit of an fp32 result."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylebench.engines import Eager, Fused
from stylebench.engines.fp16_scaling import Rescaling, convolution_of
from stylebench.model.precision import PRECISIONS
from stylebench.model.vgg import CONVOLUTIONS, VGG19

from .problems import PRESET_CASES, SHALLOW, evaluate, images_for, random_images, relative_error

RESCALED = replace(PRECISIONS["fp32"], rescaled=True)


def biased(weights, seed=3):
    """The same weights with biases, which random weights do not have."""
    generator = torch.Generator().manual_seed(seed)
    layers = {
        name: (w, 0.5 * torch.randn(len(b), generator=generator))
        for name, (w, b) in weights.layers.items()
    }
    return replace(weights, layers=layers)


def exponents(seed, tapped, spread=20):
    """Random exponents: one per channel, or one per layer for the convolutions in ``tapped``."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name in CONVOLUTIONS:
        width = 64 * 2 ** min(3, int(name[4]) - 1)
        chosen = torch.randint(-spread, spread + 1, (width,), generator=generator).tolist()
        drawn[name] = tuple(chosen[:1] * width if name in tapped else chosen)
    image, loss = torch.randint(-spread, spread + 1, (2,), generator=generator).tolist()
    return Rescaling(image, drawn, loss)


# a tap of each kind, before ReLU, after it and at a pooling, and both losses at one layer
EVERYWHERE = replace(
    SHALLOW,
    content_layers={"conv2_2": 0.5, "relu2_2": 0.5, "pool2": 1.0},
    style_layers={"conv1_1": 1.0, "relu1_1": 1.0, "relu2_2": 0.3, "conv2_1": 0.7, "pool1": 1.0},
    tv_weight=1e-3,
)


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("engine", [Fused, Eager])
@pytest.mark.parametrize("preset", [*PRESET_CASES, pytest.param(EVERYWHERE, id="everywhere")])
def test_rescaling_changes_no_bit(weights, monkeypatch, preset, engine, pooling):
    preset = replace(preset, pooling=pooling)
    network, images = biased(weights), images_for(weights, preset)
    terms, gradient = evaluate(engine, network, preset, "fp32", images)
    tapped = {convolution_of(layer) for layer in preset.taps}
    rescaling = exponents(len(preset.source), tapped)
    monkeypatch.setattr("stylebench.engines.fp16_calibration.calibrate", lambda *_: rescaling)
    rescaled_terms, rescaled_gradient = evaluate(engine, network, preset, RESCALED, images)
    assert torch.equal(rescaled_terms.values, terms.values)
    assert torch.equal(rescaled_gradient, gradient)


@pytest.mark.parametrize("engine", [Fused, Eager])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), spread=st.integers(0, 24))
def test_channels_at_a_loss_may_differ_too(weights, engine, seed, spread):
    preset, images = replace(EVERYWHERE, pooling="average"), random_images(weights)
    rescaling = exponents(seed, tapped=(), spread=spread)
    terms, gradient = evaluate(engine, weights, preset, "fp32", images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stylebench.engines.fp16_calibration.calibrate", lambda *_: rescaling)
        rescaled_terms, rescaled_gradient = evaluate(engine, weights, preset, RESCALED, images)
    # Gram matrices of other channels' mantissas are added in the same order: the same bits
    assert torch.equal(rescaled_terms.values, terms.values)
    assert relative_error(rescaled_gradient, gradient) < 1e-6


def test_the_weights_given_are_left_alone(weights):
    before = {name: (w.clone(), b.clone()) for name, (w, b) in weights.layers.items()}
    network = VGG19(weights, "relu3_1")
    exponents(1, ()).apply(network)
    assert not torch.equal(network.layers["conv2_1"].weight, before["conv2_1"][0])
    for name, (w, b) in weights.layers.items():
        assert torch.equal(w, before[name][0])
        assert torch.equal(b, before[name][1])


def test_no_exponents_are_no_change():
    objective = SHALLOW.objective(32, 32)
    x = torch.ones(1, 3, 4, 4)
    none = Rescaling()
    assert none.objective(objective) == objective
    assert none.channel_scale("relu1_1", x) is None
    assert none.scale_input(x) is x
    assert none.input_factor == none.gradient_factor == none.loss_factor == 1.0
    assert none.unscale(x) is x


@pytest.mark.parametrize("layer", ["relu4_2", "conv4_2"])
def test_a_layer_has_the_scale_of_its_convolution(layer):
    assert convolution_of(layer) == "conv4_2"
    assert convolution_of("pool4") == "conv4_4"


def test_a_device_without_fp64_is_rescaled_by_the_cpu(weights, apple):
    outputs = {name: len(weights.layers[name][1]) for name in CONVOLUTIONS}
    rescaling = Rescaling(2, {name: tuple(e % 5 for e in range(n)) for name, n in outputs.items()})
    networks = [VGG19(weights, "relu2_1") for _ in range(2)]
    for layer in networks[1].modules():
        if isinstance(layer, torch.nn.Conv2d):
            for name in ("weight", "bias"):
                on_gpu = getattr(layer, name).detach().as_subclass(apple)
                setattr(layer, name, torch.nn.Parameter(on_gpu, requires_grad=False))
    for network in networks:
        rescaling.apply(network)
    for ours, theirs in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(ours, theirs)
    scale = rescaling.channel_scale("relu1_1", torch.ones(1).as_subclass(apple))
    assert scale.dtype == torch.float32

"""The reference engine: its gradient by finite differences, its terms apart, its arithmetic."""

from dataclasses import replace

import pytest
import torch

from stylebench.engines import ENGINES, Reference
from stylebench.model.losses import content_loss, gram, style_loss, tv_loss
from stylebench.model.precision import PRECISIONS, exact_arithmetic
from stylebench.model.presets import PRESETS
from stylebench.model.vgg import VGG19


def images(dtype=torch.float64, size=32):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(4, 1, 3, size, size, dtype=torch.float64, generator=generator)
    return [50 * image.to(dtype) for image in drawn]


def engine_for(weights, preset, size=32):
    chosen = PRESETS[preset]
    network = VGG19(weights, chosen.deepest_layer, chosen.pooling)
    dtype = next(network.parameters()).dtype
    precision = PRECISIONS["fp64" if dtype == torch.float64 else "fp32"]
    content, first, second, image = images(dtype, size)
    objective = chosen.objective(size, size)
    styles, blend = [first, second], [0.25, 0.75]
    return Reference(network, objective, content, styles, blend, precision), image


@pytest.mark.parametrize("preset", PRESETS)
def test_gradient_agrees_with_finite_differences(weights64, preset):
    """Central differences in fp64 along random directions.

    Average pooling stands in for max in every preset: with ReLU and max the loss has kinks that a
    difference quotient straddles, and smaller steps drown in rounding.
    """
    chosen = PRESETS[preset]
    network = VGG19(weights64, chosen.deepest_layer, "average")
    content, first, second, image = images()
    objective = chosen.objective(32, 32)
    styles, blend = [first, second], [0.25, 0.75]
    engine = Reference(network, objective, content, styles, blend, PRECISIONS["fp64"])
    _, gradient = engine.loss_and_grad(image)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = torch.randn(image.shape, dtype=torch.float64, generator=generator)
        step = 1e-5
        ahead, behind = (
            engine.loss_and_grad(image + sign * step * direction)[0].total for sign in (1, -1)
        )
        slope = (ahead - behind) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_term_is_reported_apart(weights64, preset):
    engine, image = engine_for(weights64, preset)
    objective = engine.objective
    terms, _ = engine.loss_and_grad(image)
    F = engine.network(image, objective.taps)
    expected = [
        content_loss(F[layer], engine.targets.content[layer], weight)
        for layer, weight in objective.content.items()
    ]
    expected += [
        style_loss(F[layer], engine.targets.style[layer], weight)
        for layer, weight in objective.style.items()
    ]
    if objective.tv:
        expected.append(tv_loss(image, objective.tv, objective.tv_kind))
    assert terms.names == objective.terms
    torch.testing.assert_close(terms.values, torch.stack(expected))
    torch.testing.assert_close(terms.total, sum(expected))


def test_style_targets_are_the_blend_of_their_grams(weights64):
    engine, _ = engine_for(weights64, "gatys-pytorch")
    _, first, second, _ = images()
    layer = "relu2_1"
    grams = [gram(engine.network(style, [layer])[layer]) for style in (first, second)]
    expected = 0.25 * grams[0] + 0.75 * grams[1]
    torch.testing.assert_close(engine.targets.style[layer], expected)


def test_content_image_has_no_content_loss(weights64):
    engine, _ = engine_for(weights64, "gatys-pytorch")
    terms, _ = engine.loss_and_grad(images()[0])
    assert terms.values[0] == 0
    assert (terms.values[1:] > 0).all()


def test_the_image_is_left_alone_and_the_gradient_is_detached(weights):
    engine, image = engine_for(weights, "gatys-pytorch")
    before = image.clone()
    terms, gradient = engine.loss_and_grad(image)
    assert torch.equal(image, before)
    assert not image.requires_grad
    assert image.grad is None
    assert not gradient.requires_grad
    assert not terms.values.requires_grad


@pytest.mark.parametrize("preset", PRESETS)
def test_fp32_stays_near_the_fp64_oracle(weights, weights64, preset):
    single, image = engine_for(weights, preset)
    double, image64 = engine_for(weights64, preset)
    _, gradient = single.loss_and_grad(image)
    _, oracle = double.loss_and_grad(image64)
    error = (gradient.double() - oracle).norm() / oracle.norm()
    assert error < 1e-5  # 5e-7 to 4e-6 measured: fp32's 6e-8 through 13 layers and back


def test_layers_may_be_any_and_tv_alone_is_enough(weights64):
    chosen = replace(PRESETS["neural-style-pt"], content_layers={}, style_layers={}, tv_weight=2.0)
    network = VGG19(weights64, chosen.deepest_layer)
    content, style, _, image = images()
    engine = Reference(
        network, chosen.objective(32, 32), content, [style], [1.0], PRECISIONS["fp64"]
    )
    terms, gradient = engine.loss_and_grad(image)
    assert terms.names == ("tv",)
    assert gradient.abs().max() <= 8.0  # each pixel has four neighbours


def test_tf32_is_off_within_and_restored_after():
    switch = torch.backends.cuda.matmul
    before = switch.fp32_precision
    try:
        switch.fp32_precision = "tf32"
        with exact_arithmetic():
            assert switch.fp32_precision == "ieee"
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert switch.fp32_precision == "tf32"
        with pytest.raises(RuntimeError, match="stop"), exact_arithmetic():
            raise RuntimeError("stop")
        assert switch.fp32_precision == "tf32"
    finally:
        switch.fp32_precision = before


def test_the_reference_is_offered():
    assert ENGINES["reference"] is Reference

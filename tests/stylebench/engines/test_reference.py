"""The reference engine against torchvision's VGG-19, the formulas written out, and differences."""

from dataclasses import replace

import pytest
import torch

from stylebench.engines import Reference
from stylebench.model.precision import exact_arithmetic
from stylebench.model.presets import PRESETS
from stylebench.model.vgg import LAYERS

from .problems import (
    PRESET_CASES,
    SHALLOW,
    STYLE_WEIGHTS,
    build,
    evaluate,
    images_for,
    random_images,
    relative_error,
)

vgg = pytest.importorskip("torchvision.models.vgg", reason="it is the oracle here")


@pytest.mark.parametrize("preset", PRESET_CASES)
def test_gradient_agrees_with_finite_differences(weights64, preset):
    """Central differences in fp64 along random directions.

    Average pooling stands in for max in every preset: with ReLU and max the loss has kinks that a
    difference quotient straddles, and smaller steps drown in rounding.
    """
    preset = replace(preset, pooling="average")
    engine, image = build(Reference, weights64, preset, "fp64", images_for(weights64, preset))
    _, gradient = engine.loss_and_grad(image)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = torch.randn(image.shape, dtype=torch.float64, generator=generator)
        step = 1e-6
        ahead, behind = (
            engine.loss_and_grad(image + sign * step * direction)[0].total for sign in (1, -1)
        )
        slope = (ahead - behind) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=0)


def torchvisions_features(weights, pooling, x):
    """Layer -> features of torchvision's VGG-19 with these weights, as far as ``x`` is large."""
    features = {}
    for name, layer in zip(LAYERS, vgg.make_layers(vgg.cfgs["E"]), strict=True):
        if name.startswith("conv"):
            weight, bias = weights.layers[name]
            x = torch.nn.functional.conv2d(x, weight, bias, padding=1)
        elif name.startswith("pool") and pooling == "average":
            x = torch.nn.functional.avg_pool2d(x, layer.kernel_size, layer.stride)
        else:
            x = layer(x.clone())  # its ReLUs work in place
        features[name] = x[0]
        if name == "relu5_1":
            break
    return features


def gram_by_sums(F):
    """sum_hw F_ihw F_jhw / (H W): [N, H, W] -> [N, N]."""
    return torch.einsum("ihw,jhw->ij", F, F) / (F.shape[1] * F.shape[2])


def style_targets(weights, preset, styles):
    """Layer -> the styles' Gram matrices, weighted and added."""
    features = [torchvisions_features(weights, preset.pooling, style) for style in styles]
    return {
        layer: sum(w * gram_by_sums(F[layer]) for w, F in zip(STYLE_WEIGHTS, features, strict=True))
        for layer in preset.style_layers
    }


@pytest.mark.parametrize("preset", PRESET_CASES)
def test_every_term_is_its_formula_on_torchvisions_network(weights64, preset):
    content, *styles, image = images = images_for(weights64, preset)
    F = torchvisions_features(weights64, preset.pooling, image)
    P = torchvisions_features(weights64, preset.pooling, content)
    A = style_targets(weights64, preset, styles)
    expected = {}
    for layer, weight in preset.content_layers.items():
        scale = preset.content_factor / F[layer].numel() ** preset.content_exponent
        squares = (F[layer] - P[layer]).square().sum()
        expected[f"content {layer}"] = preset.content_weight * weight * scale * squares
    count = len(preset.style_layers) if preset.average_style_layers else 1
    for layer, weight in preset.style_layers.items():
        scale = preset.style_factor / len(F[layer]) ** preset.style_exponent / count
        squares = (gram_by_sums(F[layer]) - A[layer]).square().sum()
        expected[f"style {layer}"] = preset.style_weight * weight * scale * squares
    if preset.tv_weight:
        differences = [image.diff(dim=dim).flatten() for dim in (2, 3)]
        power = {"l1": 1, "l2": 2}[preset.tv_kind]
        expected["tv"] = preset.tv_weight * torch.cat(differences).abs().pow(power).sum()
    terms, _ = evaluate(Reference, weights64, preset, "fp64", images)
    assert terms.names == tuple(expected)
    torch.testing.assert_close(terms.values, torch.stack(list(expected.values())))
    torch.testing.assert_close(terms.total, sum(expected.values()))


def test_style_targets_are_weighted_means_of_the_styles_gram_matrices(weights64):
    images = random_images(weights64)
    engine, _ = build(Reference, weights64, SHALLOW, "fp64", images)
    expected = style_targets(weights64, SHALLOW, images[1:3])
    assert engine.targets.style.keys() == expected.keys()
    for layer, A in expected.items():
        torch.testing.assert_close(engine.targets.style[layer], A[None])


def test_content_image_has_no_content_loss(weights64):
    images = random_images(weights64)
    engine, _ = build(Reference, weights64, SHALLOW, "fp64", images)
    terms, _ = engine.loss_and_grad(images[0])
    assert terms.values[0] == 0
    assert (terms.values[1:] > 0).all()


def test_the_image_is_left_alone_and_the_gradient_is_detached(weights):
    engine, image = build(Reference, weights, SHALLOW, "fp32", random_images(weights))
    before = image.clone()
    terms, gradient = engine.loss_and_grad(image)
    assert torch.equal(image, before)
    assert not image.requires_grad
    assert image.grad is None
    assert not gradient.requires_grad
    assert not terms.values.requires_grad


@pytest.mark.parametrize("preset", PRESET_CASES)
def test_fp32_stays_near_the_fp64_oracle(weights, weights64, preset):
    _, gradient = evaluate(Reference, weights, preset, "fp32", images_for(weights, preset))
    _, oracle = evaluate(Reference, weights64, preset, "fp64", images_for(weights64, preset))
    # whole networks: 5e-7 to 4e-6 measured, fp32's 6e-8 through 13 layers and back
    assert relative_error(gradient, oracle) < 1e-5


def test_total_variation_alone_is_enough(weights64):
    preset = replace(PRESETS["neural-style-pt"], content_layers={}, style_layers={}, tv_weight=2.0)
    images = images_for(weights64, preset)
    terms, gradient = evaluate(Reference, weights64, preset, "fp64", images)
    assert terms.names == ("tv",)
    # d|a - b| is the sign of a - b at a and its opposite at b
    rows, columns = (2.0 * images[-1].diff(dim=dim).sign() for dim in (2, 3))
    pad = torch.nn.functional.pad
    expected = pad(rows, (0, 0, 1, 0)) - pad(rows, (0, 0, 0, 1))
    expected += pad(columns, (1, 0)) - pad(columns, (0, 1))
    assert torch.equal(gradient, expected)


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

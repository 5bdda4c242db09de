"""Seamless images: every engine against VGG-19 of ``padding_mode="circular"``, and rolled images.

Style images end at their borders in all of them.
"""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import nn

from stylebench.engines import Compiled, Eager, Fused, Reference
from stylebench.engines.tiled import TILED
from stylebench.model.presets import PRESETS
from stylebench.model.tiles import UNCUT, Span, Tile, Tiling, spans
from stylebench.model.vgg import VGG19

from .problems import (
    SHALLOW,
    SHALLOWEST,
    STYLE_WEIGHTS,
    build,
    evaluate,
    in_fp64,
    random_images,
    relative_error,
    term_error,
)
from .tiling import small_tiles

__all__ = ["small_tiles"]

SIZE = (32, 48)
POOLED = replace(
    SHALLOW, pooling="average", tv_weight=1e-3, tv_kind="l2", seamless=True,
    content_layers={"conv2_2": 1.0, "pool2": 0.5},
)  # fmt: skip
CASES = {
    "no content": replace(SHALLOW, content_layers={}, seamless=True),
    "content and tv": replace(SHALLOW, tv_weight=1e-3, seamless=True),
    "average, squares": POOLED,
}
DEEP = replace(PRESETS["gatys-pytorch"], content_layers={}, tv_weight=1e-3, seamless=True)


def whole(engine):
    """The engine of whole maps: the fused one's are a single window."""
    return partial(TILED["fused"], tiling=UNCUT) if engine is Fused else engine


def in_tiles(engine):
    return partial(TILED[engine.name], tiling=Tiling(8, 12))


def in_bands(engine):
    return partial(TILED[engine.name], tiling=Tiling(8))


#: Engine, tiles and case that are not slow: each of them somewhere.
FAST = [
    (Reference, whole, "content and tv"),
    (Reference, in_tiles, "no content"),
    (Eager, whole, "average, squares"),
    (Eager, in_bands, "content and tv"),
    (Fused, whole, "no content"),
    (Fused, whole, "average, squares"),
    (Fused, in_tiles, "content and tv"),
    (Fused, in_bands, "average, squares"),
]


@pytest.fixture(scope="module")
def exact(weights64):
    """The oracle's loss terms and gradient of a case, computed once."""
    return cache(lambda case: oracle(weights64, CASES[case], random_images(weights64, *SIZE)))


@pytest.fixture(scope="module")
def deep_images(weights64):
    return random_images(weights64, 80, 96)


@pytest.fixture(scope="module")
def exact_deep(weights64, deep_images):
    """Likewise of all five blocks."""
    return oracle(weights64, DEEP, deep_images)


def oracle(weights, preset, images):
    """Loss terms and gradient by torch's own circular convolutions, written out, in fp64."""
    content, *styles, image = images

    def features(x, mode):
        found = {}
        for name, layer in VGG19(weights, preset.deepest_layer, preset.pooling).layers.items():
            if isinstance(layer, nn.Conv2d):
                convolution = nn.Conv2d(
                    layer.in_channels, layer.out_channels, 3, padding=1, padding_mode=mode,
                    dtype=x.dtype,
                )  # fmt: skip
                convolution.weight.data, convolution.bias.data = layer.weight, layer.bias
                layer = convolution
            x = found[name] = layer(x)
        return found

    def gram(F):
        F = F[0].flatten(1)
        return F @ F.T / F.shape[1]

    x = image.clone().requires_grad_()
    objective = preset.objective(*image.shape[2:])
    F, P = features(x, "circular"), features(content, "circular")
    terms = [c * (F[name] - P[name]).square().sum() for name, c in objective.content.items()]
    for name, k in objective.style.items():
        shares = zip(STYLE_WEIGHTS, styles, strict=True)
        A = sum(share * gram(features(style, "zeros")[name]) for share, style in shares)
        terms.append(k * (gram(F[name]) - A).square().sum())
    if objective.tv:
        steps = [x[..., [*range(1, x.shape[3]), 0]] - x, x[:, :, [*range(1, x.shape[2]), 0]] - x]
        total = sum((s.abs() if objective.tv_kind == "l1" else s.square()).sum() for s in steps)
        terms.append(objective.tv * total)
    terms = torch.stack(terms)
    (gradient,) = torch.autograd.grad(terms.sum(), x)
    return terms.detach(), gradient


@pytest.mark.parametrize(
    ("engine", "cut", "case"),
    [
        pytest.param(
            engine, cut, case, id=f"{engine.name} {cut.__name__} {case}",
            marks=[] if (engine, cut, case) in FAST else pytest.mark.slow,
        )
        for engine in (Reference, Eager, Fused)
        for cut in (whole, in_tiles, in_bands)
        for case in CASES
    ],
)  # fmt: skip
@pytest.mark.usefixtures("small_tiles")
def test_loss_and_gradient_are_those_of_circular_convolutions(exact, weights64, engine, cut, case):
    images = random_images(weights64, *SIZE)
    expected, gradient = exact(case)
    terms, found = evaluate(cut(engine), weights64, CASES[case], "fp64", images)
    assert ((terms.values - expected) / expected).abs().max() < 1e-9
    assert relative_error(found, gradient) < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_with_zeros_at_the_borders_the_loss_is_another(exact, weights64, case):
    bordered, images = replace(CASES[case], seamless=False), random_images(weights64, *SIZE)
    terms, _ = evaluate(Reference, weights64, bordered, "fp64", images)
    expected, _ = exact(case)
    assert ((terms.values - expected) / expected).abs().max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("cut", [whole, in_tiles, in_bands])
@pytest.mark.parametrize("engine", [Reference, Eager, Fused])
@pytest.mark.usefixtures("small_tiles")
def test_all_five_blocks_wrap_around(weights64, deep_images, exact_deep, engine, cut):
    expected, gradient = exact_deep
    terms, found = evaluate(cut(engine), weights64, DEEP, "fp64", deep_images)
    assert ((terms.values - expected) / expected).abs().max() < 1e-9
    assert relative_error(found, gradient) < 1e-9


@pytest.mark.parametrize("engine", [Reference, Fused])
@pytest.mark.usefixtures("small_tiles")
def test_the_gradient_of_a_rolled_image_is_the_rolled_gradient(weights64, engine):
    images = random_images(weights64, *SIZE)
    case = replace(CASES["no content"], tv_weight=1e-3)
    for cut in (whole, in_tiles):
        bound, image = build(cut(engine), weights64, case, "fp64", images)
        terms, gradient = bound.loss_and_grad(image)
        for shift in ((16, 0), (0, 16), (-16, 32), (4, 8)):  # two poolings: multiples of 4
            rolled, of_rolled = bound.loss_and_grad(image.roll(shift, dims=(2, 3)))
            assert term_error(rolled, terms) < 1e-10
            assert relative_error(of_rolled, gradient.roll(shift, dims=(2, 3))) < 1e-10
        # An image that ends at its borders has no such gradient.
    bound, image = build(Reference, weights64, replace(case, seamless=False), "fp64", images)
    gradient = bound.loss_and_grad(image)[1]
    of_rolled = bound.loss_and_grad(image.roll((16, 16), dims=(2, 3)))[1]
    assert relative_error(of_rolled, gradient.roll((16, 16), dims=(2, 3))) > 1e-3


@pytest.mark.slow
def test_an_image_of_16_px_wraps_around_more_than_once(weights64):
    images = random_images(weights64, 16, 32)
    expected, gradient = oracle(weights64, DEEP, images)
    for engine in (Reference, Fused):
        terms, found = evaluate(whole(engine), weights64, DEEP, "fp64", images)
        assert ((terms.values - expected) / expected).abs().max() < 1e-9
        assert relative_error(found, gradient) < 1e-9


@pytest.mark.parametrize(
    "precision", ["bf16", *(pytest.param(p, marks=pytest.mark.slow) for p in ("fp32", "fp16"))]
)
@pytest.mark.usefixtures("small_tiles")
def test_the_fused_engine_is_no_further_off_than_with_borders(weights, precision):
    images = random_images(weights, *SIZE)
    case = CASES["content and tv"]
    ours = whole(Fused)

    def errors(preset, engine):
        expected, gradient = evaluate(Reference, in_fp64(weights), preset, "fp64", images)
        terms, found = evaluate(engine, weights, preset, precision, images)
        return term_error(terms, expected), relative_error(found, gradient)

    bordered = errors(replace(case, seamless=False), partial(TILED["fused"], tiling=UNCUT))
    for cut in (ours, in_tiles(Fused)):
        for error, known in zip(errors(case, cut), bordered, strict=True):
            assert error < 2 * known  # the same arithmetic at other positions


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
def test_the_compiled_engine_wraps_around(weights):
    images = random_images(weights, *SIZE)
    case = replace(SHALLOWEST, content_layers={}, tv_weight=1e-3, seamless=True)
    expected, gradient = evaluate(Eager, weights, case, "fp32", images)
    for cut in (whole, in_tiles):
        terms, found = evaluate(cut(Compiled), weights, case, "fp32", images)
        assert term_error(terms, expected) < 1e-5
        assert relative_error(found, gradient) < 1e-5


def test_another_content_image_wraps_around_too(weights64):
    images = random_images(weights64, *SIZE)
    other = images[-1].flip(3)
    expected, gradient = oracle(weights64, POOLED, [other, *images[1:]])
    for engine in (Reference, Eager, Fused):
        bound, image = build(whole(engine), weights64, POOLED, "fp64", images)
        bound.retarget(other.to(image))
        terms, found = bound.loss_and_grad(image)
        assert ((terms.values - expected) / expected).abs().max() < 1e-9
        assert relative_error(found, gradient) < 1e-9


def test_the_fused_engine_of_whole_maps_refuses(weights):
    with pytest.raises(ValueError, match=r"take TILED\['fused'\], UNCUT"):
        build(Fused, weights, CASES["no content"], "fp32", random_images(weights, *SIZE))


@pytest.mark.parametrize("length", [1, 2, 12, 32, 100])
@pytest.mark.parametrize("size", [4, 16, None])
def test_spans_of_a_side_without_end_read_their_halo_everywhere(length, size, small_tiles):
    x = torch.arange(length).view(1, 1, 1, length)
    column = Span(0, 1, 0, 1, 1)
    for halo in (2, 4, 8):
        cut = spans(length, size, halo, wraps=True)
        assert [span.start for span in cut] == [0, *(span.stop for span in cut[:-1])]
        assert cut[-1].stop == length
        for span in cut:
            assert span.start - span.first >= halo
            assert span.last - span.stop >= halo
            window = Tile(column, span).window(x).flatten()
            assert window.tolist() == [i % length for i in range(span.first, span.last)]
            assert Tile(column, span).own(Tile(column, span).window(x)).flatten().tolist() == list(
                range(span.start, span.stop)
            )


def test_a_window_across_the_edge_reads_tiles_at_the_other_end():
    first, last = Span(0, 8, -4, 12, 32), Span(24, 32, 20, 36, 32)
    middle = Span(12, 20, 8, 24, 32)
    assert first.reads(last)
    assert last.reads(first)
    assert not middle.reads(first)
    assert not first.reads(middle)
    assert Span(0, 8, -16, 24, 32).reads(middle)
    assert not Span(0, 8, 0, 12, 32).reads(last)

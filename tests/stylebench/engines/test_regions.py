"""Regions in every engine, whole and on tiles, against the fp64 reference.

The oracle's guided Gram matrices are held against explicit loops in ``model/test_regions.py``. An
engine's error may be twice that of plain PyTorch at the same precision, as in ``test_engines.py``.
"""

from dataclasses import replace

import pytest
import torch

import stylekernels as sk
from stylebench.engines import Compiled, Eager, Fused, Reference
from stylebench.engines.fp16_calibration import GRADIENTS_BELOW, calibrate, gradient_ranges
from stylebench.engines.fused.guided import Guide, GuidedTap
from stylebench.model.losses import guided_gram
from stylebench.model.precision import PRECISIONS
from stylebench.model.regions import Region
from stylebench.model.vgg import VGG19

from .problems import (
    SHALLOW,
    SHALLOWEST,
    TAPS,
    build,
    evaluate,
    random_images,
    relative_error,
    result_at,
    term_error,
)
from .tiling import small_tiles, tiled

__all__ = ["small_tiles"]
pytestmark = pytest.mark.usefixtures("small_tiles")

FLOOR = 2e-6  # relative, as in test_engines.py
SIZE = (37, 45)
AVERAGE = replace(SHALLOW, pooling="average", tv_weight=1e-3)


def regions_of(images):
    """A band with a soft edge, a disk below it, and all but the left edge of the rest.

    The first takes a soft half of the first style image, the disk the second image, the rest a
    mixture. The left edge has no style.

    Args:
        images: as of ``random_images``.
    """
    height, width = images[0].shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    band = ((height / 2 - y) / 4 + 0.5).clamp(0, 1).double()
    disk = ((x - width / 2) ** 2 + (y - 0.75 * height) ** 2 < (height / 5) ** 2) * (1 - band)
    rest = (1 - band - disk) * (x > 5)
    style = torch.linspace(0, 1, images[1].shape[3], dtype=torch.float64)
    style = style.expand(1, 1, *images[1].shape[2:])
    contents = [part.double()[None, None] for part in (band, disk, rest)]
    return [
        Region(contents[0], [style, None], [1.0, 0.0]),
        Region(contents[1], [None, None], [0.0, 1.0]),
        Region(contents[2], [1 - style, None], [0.25, 0.75]),
    ]


@pytest.fixture(scope="module")
def images(weights):
    return random_images(weights, *SIZE)


@pytest.fixture(scope="module")
def parts(images):
    return regions_of(images)


@pytest.fixture(scope="module")
def oracle(weights64, images, parts):
    """Preset -> loss terms and gradient of the fp64 reference."""
    results = {}

    def result(preset):
        if repr(preset) not in results:
            results[repr(preset)] = evaluate(Reference, weights64, preset, "fp64", images, parts)
        return results[repr(preset)]

    return result


def test_the_reference_captures_and_compares_guided_gram_matrices(weights64, images, parts):
    preset = replace(AVERAGE, content_layers={}, style_layers={"relu2_1": 1.0}, tv_weight=0.0)
    engine, image = build(Reference, weights64, preset, "fp64", images, parts)
    terms, _ = engine.loss_and_grad(image)
    features = [engine.network(x, ["relu2_1"])["relu2_1"] for x in images[1:]]
    total = 0.0
    for region in parts:
        masks = [*region.styles, region.content]
        T = [
            torch.ones(1, 1, *F.shape[2:], dtype=F.dtype)
            if mask is None
            else torch.nn.functional.avg_pool2d(mask, 2).sqrt()
            for mask, F in zip(masks, features, strict=True)
        ]
        *styles, G = (guided_gram(F, t) for F, t in zip(features, T, strict=True))
        A = sum(w * one for w, one in zip(region.style_weights, styles, strict=True))
        share = (T[-1] ** 2).mean()
        k = preset.objective(*SIZE).style["relu2_1"]
        total += k * share * ((G - A) ** 2).sum()
    assert terms.total.item() == pytest.approx(total.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("taps", "pooling"),
    [
        ("pre and post", "average"),
        ("poolings", "max"),
        ("content and style at one layer", "average"),
        pytest.param("poolings", "average", marks=pytest.mark.slow),
        pytest.param("pre and post", "max", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "tiled"])
@pytest.mark.parametrize(
    "engine", [Fused, pytest.param(Eager, marks=pytest.mark.slow)], ids=["fused", "eager"]
)
def test_engines_in_fp64_are_the_oracle(
    weights64, images, parts, oracle, engine, cut, taps, pooling, set_tile_rows
):
    set_tile_rows(8)
    preset = replace(SHALLOW, pooling=pooling, **TAPS[taps])
    kind = tiled(engine) if cut else engine
    terms, gradient = evaluate(kind, weights64, preset, "fp64", images, parts)
    exact, exact_gradient = oracle(preset)
    assert terms.names == exact.names
    torch.testing.assert_close(terms.values, exact.values, rtol=1e-11, atol=0)
    assert relative_error(gradient, exact_gradient) < 1e-11


@pytest.mark.parametrize(
    ("precision", "cut"),
    [
        ("fp32", False),
        ("fp32", True),
        ("bf16", False),
        ("bf16", True),
        ("fp16", False),
        pytest.param("fp16", True, marks=pytest.mark.slow),  # slow on a CPU
    ],
)
def test_fused_is_as_accurate_as_plain_pytorch(
    weights, images, parts, oracle, precision, cut, set_tile_rows
):
    exact, exact_gradient = oracle(AVERAGE)
    eager, eager_gradient = evaluate(Eager, weights, AVERAGE, precision, images, parts)
    for rows in (8, 64):
        set_tile_rows(rows)
        kind = tiled(Fused) if cut else Fused
        terms, gradient = evaluate(kind, weights, AVERAGE, precision, images, parts)
        half = precision != "fp32"
        rounding = torch.finfo(PRECISIONS[precision].dtype).eps if half else FLOOR
        assert term_error(terms, exact) <= 2 * term_error(eager, exact) + rounding
        allowed = 2 * relative_error(eager_gradient, exact_gradient)
        assert relative_error(gradient, exact_gradient) <= allowed + (0 if half else FLOOR)


@pytest.mark.parametrize(
    ("engine", "precision"), [(Reference, "fp32"), (Eager, "fp32"), (Eager, "bf16")]
)
def test_tiles_of_plain_pytorch_are_as_accurate_as_it_is_whole(
    weights, images, parts, oracle, engine, precision
):
    exact, exact_gradient = oracle(AVERAGE)
    whole, whole_gradient = evaluate(engine, weights, AVERAGE, precision, images, parts)
    terms, gradient = evaluate(tiled(engine), weights, AVERAGE, precision, images, parts)
    assert term_error(terms, exact) <= 2 * term_error(whole, exact) + FLOOR
    allowed = 2 * relative_error(whole_gradient, exact_gradient) + FLOOR
    assert relative_error(gradient, exact_gradient) <= allowed


@pytest.mark.parametrize(
    ("backend", "preset"),
    [
        pytest.param("aot_eager", AVERAGE, id="aot_eager"),
        pytest.param("inductor", SHALLOWEST, id="inductor", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("cut", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_compiled_is_the_reference(
    weights, images, parts, oracle, monkeypatch, backend, preset, cut
):
    monkeypatch.setattr(Compiled, "backend", backend)
    preset = replace(preset, pooling="average")
    exact, exact_gradient = oracle(preset)
    kind = tiled(Compiled) if cut else Compiled
    terms, gradient = evaluate(kind, weights, preset, "fp32", images, parts)
    torch.testing.assert_close(terms.values, exact.values, rtol=1e-5, atol=0)
    assert relative_error(gradient, exact_gradient) < 1e-5


def test_a_gradient_that_is_not_masked_would_be_caught(weights, images, parts, oracle, monkeypatch):
    def unmasked(region, gradient, x, v):
        one = x.new_ones((), dtype=region.slope[1].dtype)
        box = region.guide.box(gradient)
        box += sk.style_loss_backward(one, region.guide.masked(x), *region.slope, v)

    monkeypatch.setattr("stylebench.engines.fused.guided.RegionLoss.add_gradient", unmasked)
    _, exact = oracle(AVERAGE)
    _, plain = evaluate(Eager, weights, AVERAGE, "fp32", images, parts)
    _, gradient = evaluate(Fused, weights, AVERAGE, "fp32", images, parts)
    assert relative_error(gradient, exact) > 2 * relative_error(plain, exact) + FLOOR


def test_a_part_without_a_style_is_not_pulled(weights, images):
    content = torch.zeros(1, 1, *SIZE)
    content[..., :12, :20] = 1
    parts = [Region(content, [None, None], [0.5, 0.5])]
    preset = replace(AVERAGE, content_layers={}, style_layers={"relu1_1": 1.0}, tv_weight=0.0)
    for kind in (Fused, tiled(Fused)):
        _, gradient = evaluate(kind, weights, preset, "fp32", images, parts)
        assert gradient[..., :13, :21].any()
        assert not gradient[..., 13:, :].any()
        assert not gradient[..., 21:].any()


def test_one_region_of_all_is_the_run_without_masks(weights64, images):
    white = [Region(torch.ones(1, 1, *SIZE), [None, None], [0.25, 0.75])]
    for kind in (Reference, Fused, tiled(Fused)):
        expected = evaluate(kind, weights64, AVERAGE, "fp64", images)
        found = evaluate(kind, weights64, AVERAGE, "fp64", images, white)
        torch.testing.assert_close(found[0].values, expected[0].values, rtol=1e-12, atol=0)
        assert relative_error(found[1], expected[1]) < 1e-12


def test_without_masks_no_tap_is_guided(weights, images):
    engine, _ = build(Fused, weights, AVERAGE, "fp32", images)
    taps = [stage.relu_tap for stage in engine._stages if stage.relu_tap]
    assert taps
    assert not any(isinstance(tap, GuidedTap) for tap in taps)


@pytest.mark.parametrize("kind", ["fused", "tiled"])
def test_another_content_keeps_the_regions(weights, images, parts, kind):
    kind = tiled(Fused) if kind == "tiled" else Fused
    content, *others = images
    engine, image = build(kind, weights, AVERAGE, "fp32", images, parts)
    engine.retarget(content.flip(3).to(image))
    expected, gradient = evaluate(kind, weights, AVERAGE, "fp32", [content.flip(3), *others], parts)
    found, again = result_at(engine, image)
    assert torch.equal(found.values, expected.values)
    assert torch.equal(again, gradient)


def test_the_range_of_fp16_is_chosen_by_the_regions(weights, images):
    """A corner that is far brighter than the rest of the picture has a far steeper loss."""
    content, style, *_ = images
    content = content.clone()
    content[..., :9, :9] *= 20
    mask = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    mask[..., :9, :9] = 1
    corner = [Region(mask, [None], [1.0])]
    network = VGG19(weights, AVERAGE.deepest_layer, AVERAGE.pooling)
    inputs = (network, AVERAGE.objective(*SIZE), content.float(), [style.float()])
    parts = [region.to(inputs[2]) for region in corner]
    chosen, unaware = calibrate(*inputs, regions=parts), calibrate(*inputs)

    def steepest(rescaling):
        network, objective, content, styles = inputs
        ranges = gradient_ranges(network, objective, rescaling, [content], styles, parts)
        return max(ranges.values())

    assert steepest(chosen) < 2**GRADIENTS_BELOW
    assert steepest(unaware) >= 2**GRADIENTS_BELOW


def test_a_guide_is_cut_to_its_box_and_to_a_window():
    T = torch.zeros(1, 1, 6, 8)
    T[..., 1:4, 2:7] = torch.rand(3, 5) + 0.1
    guide = Guide.of(T)
    assert (guide.top, guide.left, *guide.T.shape[2:]) == (1, 2, 3, 5)
    assert guide.mass == pytest.approx(T.square().sum().item())
    x = torch.rand(1, 2, 6, 8)
    part = guide.within(slice(2, 6), slice(0, 4))
    assert part.mass == guide.mass
    torch.testing.assert_close(part.masked(x[..., 2:6, 0:4]), (x * T)[..., 2:4, 2:4])
    assert guide.within(slice(4, 6)) is None
    assert Guide.of(torch.zeros(1, 1, 3, 3)) is None

"""Engines on tiles: the whole picture's loss and gradient, whatever the tiles.

In fp64 equality is to rounding, so that a position too few in a halo shows. In fp32 it is to 1e-6
of the picture's own engine, on pictures whose Gram matrices differ as a photograph's and a
painting's do: where they are equal, all that is left of G - A is rounding.
"""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torchvision.transforms.functional import to_tensor

from stylebench.bench.model.iteration import stand_ins, weights_without_numbers
from stylebench.engines import ENGINES, Compiled, Eager, Fused, Reference
from stylebench.engines.fp16_calibration import calibrate
from stylebench.engines.tiled import TILED
from stylebench.image.synthetic import landscape, painting
from stylebench.model import tiles
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import PRESETS
from stylebench.model.tiles import Span, Tiling
from stylebench.model.vgg import VGG19, smallest_side
from stylekernels.model.gpus import DATA_SHEETS
from stylekernels.model.tracer import tracing

from .problems import (
    PRESET_CASES,
    SHALLOW,
    SHALLOWEST,
    STYLE_WEIGHTS,
    TAP_CASES,
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

SIZE = (61, 54)  # all of three blocks are cut, and no side is a multiple of 16
DEEP = (171, 187)  # all of five
#: Engines, those that take seconds more marked as slow.
FUSED_FIRST = [Fused, *(pytest.param(e, marks=pytest.mark.slow) for e in (Reference, Eager))]
#: Engines, presets and poolings: a few of all, and what is slow.
CASES = [
    pytest.param(
        engine, replace(case.values[0], pooling=pooling), id=f"{engine.name} {case.id} {pooling}",
        marks=[] if case.id in fast and not case.marks else pytest.mark.slow,
    )
    for engine, pooling, fast in [
        (Fused, "max", ["neural-style-pt"]),
        (Fused, "average", ["paper", "pytorch-tutorial"]),
        (Eager, "max", ["neural-style"]),
        (Reference, "average", ["gordicaleksa"]),
    ]
    for case in PRESET_CASES
    if not case.marks or (engine is Fused and case.id == "gatys-pytorch whole")
]  # fmt: skip


def pictures(weights, height, width):
    """As ``random_images``, of a drawn landscape and a drawn painting."""
    drawn = [
        landscape(width, height),
        painting(width, height),
        painting(width + 9, height - 16, seed=5),
    ]
    images = [weights.preprocessing.apply(to_tensor(x)[None].double()) for x in drawn]
    noise = torch.randn(images[0].shape, dtype=torch.float64, generator=torch.manual_seed(0))
    return [*images, images[0] + 0.3 * noise]


def size_for(preset):
    return SIZE if smallest_side(preset.deepest_layer) <= 4 else DEEP


def tiling_for(preset):
    return Tiling(8, 12) if size_for(preset) == SIZE else Tiling(48, 64)


def images_for(weights, preset):
    return random_images(weights, *size_for(preset))


@pytest.fixture(scope="module")
def oracle(weights64):
    """Preset -> loss terms and gradient of the fp64 reference."""
    results = {}

    def result(preset):
        key = repr(preset)
        if key not in results:
            images = images_for(weights64, preset)
            results[key] = evaluate(Reference, weights64, preset, "fp64", images)
        return results[key]

    return result


def check(result, exact):
    terms, gradient = result
    expected, expected_gradient = exact
    assert terms.names == expected.names
    torch.testing.assert_close(terms.values, expected.values, rtol=1e-11, atol=0)
    assert relative_error(gradient, expected_gradient) < 1e-11


@pytest.mark.parametrize(("engine", "preset"), CASES)
def test_tiles_give_the_whole_pictures_loss_and_gradient(weights64, oracle, engine, preset):
    images, cut = images_for(weights64, preset), tiled(engine, tiling_for(preset))
    check(evaluate(cut, weights64, preset, "fp64", images), oracle(preset))


@pytest.mark.parametrize("preset", TAP_CASES)
@pytest.mark.parametrize(
    ("engine", "pooling"), [(Fused, "max"), pytest.param(Eager, "average", marks=pytest.mark.slow)]
)
def test_losses_may_be_taken_anywhere(weights64, oracle, engine, preset, pooling):
    preset = replace(preset, pooling=pooling)
    images, cut = images_for(weights64, preset), tiled(engine, tiling_for(preset))
    check(evaluate(cut, weights64, preset, "fp64", images), oracle(preset))


@pytest.mark.parametrize(
    "tiling",
    [Tiling(12), Tiling(12, 40), Tiling(40, 12), Tiling(24), Tiling(1000, 1000)],
    ids=str,
)
@pytest.mark.parametrize("engine", [Fused, pytest.param(Reference, marks=pytest.mark.slow)])
def test_tiles_may_be_of_any_size(weights64, oracle, engine, tiling):
    images = random_images(weights64, *SIZE)
    check(evaluate(tiled(engine, tiling), weights64, SHALLOW, "fp64", images), oracle(SHALLOW))


@pytest.mark.parametrize("size", [(64, 48), (50, 67), (7, 90), (90, 5)])
@pytest.mark.parametrize("engine", [Fused, pytest.param(Reference, marks=pytest.mark.slow)])
def test_pictures_may_be_of_any_size(weights64, engine, size):
    height, width = size
    generator = torch.manual_seed(0)
    images = [
        torch.rand(1, 3, *sides, dtype=torch.float64, generator=generator)
        for sides in [size, size, (width, height), size]
    ]
    exact = evaluate(Reference, weights64, SHALLOW, "fp64", images)
    check(evaluate(tiled(engine, Tiling(8, 12)), weights64, SHALLOW, "fp64", images), exact)


@pytest.mark.parametrize("engine", FUSED_FIRST)
def test_the_last_tile_may_be_one_row(weights64, monkeypatch, engine):
    def cut(length, size, halo, wraps):
        """Spans of eight positions, the last of the rest, which is one."""
        starts = range(0, length, 8)
        return [
            Span(a, min(a + 8, length), max(0, a - 8), min(a + 16, length), length) for a in starts
        ]

    monkeypatch.setattr(tiles, "spans", cut)
    images = random_images(weights64, 65, 33)
    exact = evaluate(Reference, weights64, SHALLOW, "fp64", images)
    check(evaluate(tiled(engine), weights64, SHALLOW, "fp64", images), exact)


@pytest.mark.parametrize(
    "preset", [SHALLOWEST, pytest.param(TAP_CASES[0].values[0], marks=pytest.mark.slow)],
    ids=["shallowest", "pre and post"],
)  # fmt: skip
def test_compiled_tiles_give_the_whole_pictures_loss_and_gradient(
    weights64, oracle, monkeypatch, preset
):
    """Traced and differentiated as for Inductor, which would take long over so many."""
    monkeypatch.setattr(Compiled, "backend", "aot_eager")
    images = images_for(weights64, preset)
    compiled = tiled(Compiled, Tiling(24))
    check(evaluate(compiled, weights64, preset, "fp64", images), oracle(preset))


@pytest.mark.slow
def test_tiles_are_compiled_by_inductor(weights):
    images = random_images(weights, 48, 24)
    exact, exact_gradient = evaluate(Compiled, weights, SHALLOWEST, "fp32", images)
    compiled = tiled(Compiled, Tiling(24))
    terms, gradient = evaluate(compiled, weights, SHALLOWEST, "fp32", images)
    assert term_error(terms, exact) < 2e-6
    assert relative_error(gradient, exact_gradient) < 2e-6


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize(
    ("engine", "preset", "tiling"),
    [
        pytest.param(Fused, SHALLOW, Tiling(24, 20), id="fused"),
        pytest.param(Fused, SHALLOW, Tiling(16), id="bands", marks=pytest.mark.slow),
        pytest.param(Eager, SHALLOW, Tiling(24, 20), id="eager", marks=pytest.mark.slow),
        pytest.param(Reference, SHALLOW, Tiling(24, 20), id="reference", marks=pytest.mark.slow),
        pytest.param(
            Fused, PRESETS["gatys-pytorch"], Tiling(48), id="whole", marks=pytest.mark.slow
        ),
    ],
)
def test_tiles_in_fp32_are_within_a_millionth(weights, engine, tiling, pooling, preset):
    preset = replace(preset, pooling=pooling, tv_weight=1e-3)
    images = pictures(weights, *size_for(preset))
    exact, exact_gradient = evaluate(engine, weights, preset, "fp32", images)
    terms, gradient = evaluate(tiled(engine, tiling), weights, preset, "fp32", images)
    assert term_error(terms, exact) <= 1e-6
    assert relative_error(gradient, exact_gradient) <= 1e-6


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("engine", [Fused, pytest.param(Eager, marks=pytest.mark.slow)])
def test_tiles_in_half_precision_are_as_accurate_as_plain_pytorch(
    weights, oracle, engine, precision
):
    preset = replace(SHALLOW, pooling="average")
    images = random_images(weights, *SIZE)
    exact, exact_gradient = oracle(preset)
    eager, eager_gradient = evaluate(Eager, weights, preset, precision, images)
    terms, gradient = evaluate(tiled(engine), weights, preset, precision, images)
    rounding = torch.finfo(PRECISIONS[precision].dtype).eps
    assert term_error(terms, exact) <= 2 * term_error(eager, exact) + rounding
    assert relative_error(gradient, exact_gradient) <= 2 * relative_error(
        eager_gradient, exact_gradient
    )


@pytest.mark.parametrize("channels", ["several", pytest.param("one scale", marks=pytest.mark.slow)])
@pytest.mark.parametrize("engine", [Fused, pytest.param(Eager, marks=pytest.mark.slow)])
def test_channels_of_several_scales_are_brought_to_one(weights, monkeypatch, engine, channels):
    """With a spread of 1 every channel gets an exponent of its own, and taps their factors."""
    monkeypatch.setattr(
        "stylebench.engines.fp16_calibration._SPREAD", 1.0 if channels == "several" else 1e9
    )
    fp16_in_fp64 = replace(PRECISIONS["fp16"], dtype=torch.float64)
    in_fp64 = {name: (w.double(), b.double()) for name, (w, b) in weights.layers.items()}
    weights, preset = replace(weights, layers=in_fp64), TAP_CASES[0].values[0]
    images = random_images(weights, *SIZE)
    exact = evaluate(Reference, weights, preset, "fp64", images)
    bound, image = build(tiled(engine), weights, preset, fp16_in_fp64, images)
    scales = [bound.rescaling.channel_scale(layer, image) for layer in bound.objective.taps]
    assert any(scale is not None for scale in scales) == (channels == "several")
    check(result_at(bound, image), exact)


def test_exponents_are_those_of_the_whole_pictures(weights):
    content, *styles, _ = (x.float() for x in random_images(weights, *SIZE))
    network = VGG19(weights, SHALLOW.deepest_layer)
    arguments = network, SHALLOW.objective(*SIZE), content, styles
    assert calibrate(*arguments, Tiling(8, 12)) == calibrate(*arguments)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", [Fused, pytest.param(Eager, marks=pytest.mark.slow)])
def test_tiles_give_the_same_bits_again_and_leave_the_image_alone(weights, engine, precision):
    images = random_images(weights, *SIZE)
    preset = replace(SHALLOW, tv_weight=1e-3)
    bound, image = build(tiled(engine), weights, preset, precision, images)
    before = image.clone()
    terms, gradient = bound.loss_and_grad(image)
    kept = gradient.clone()
    bound.loss_and_grad(image * 0.5)
    again = bound.loss_and_grad(image)
    other, _ = build(tiled(engine), weights, preset, precision, images)
    for values, another in (again, other.loss_and_grad(image)):
        assert torch.equal(values.values, terms.values)
        assert torch.equal(another, gradient)
    assert torch.equal(image, before)
    assert torch.equal(gradient, kept)  # an earlier gradient is not overwritten


@pytest.mark.parametrize("engine", FUSED_FIRST)
def test_an_image_that_is_not_finite_has_no_finite_loss(weights, engine):
    bound, image = build(tiled(engine), weights, SHALLOW, "fp32", random_images(weights, *SIZE))
    image[0, 1, 50, 20] = float("nan")
    terms, _ = bound.loss_and_grad(image)
    assert not terms.values.isfinite().any()


@pytest.mark.parametrize("engine", FUSED_FIRST)
def test_no_window_is_larger_than_a_tile_and_its_halo_not_even_of_the_styles(weights, engine):
    class Watched(TILED[engine.name]):
        def _build_blocks(self, network, content):
            blocks = super()._build_blocks(network, content)
            self.windows = []
            for block in blocks:
                block.forward = self.watch(block.forward)
                block.recall = self.watch(block.recall)
            return blocks

        def watch(self, function):
            @cache
            def watched(x, *more, **keywords):
                self.windows.append(tuple(x.shape[2:]))
                return function(x, *more, **keywords)

            return watched.__wrapped__

    tiling = Tiling(12, 16)
    bound, image = build(
        partial(Watched, tiling=tiling), weights, SHALLOW, "fp32", random_images(weights, *SIZE)
    )
    bound.loss_and_grad(image)
    assert len(bound.windows) > 100
    # halos of 4 on both sides, and up to 3 rows more at the true border
    assert max(height for height, _ in bound.windows) <= 12 + 8 + 3
    assert max(width for _, width in bound.windows) <= 16 + 8 + 3


@pytest.mark.parametrize("engine", FUSED_FIRST)
def test_targets_of_tiles_are_the_whole_pictures(weights64, engine):
    images = random_images(weights64, *SIZE)
    whole, _ = build(engine, weights64, SHALLOW, "fp64", images)
    bound, _ = build(tiled(engine), weights64, SHALLOW, "fp64", images)
    for kind in ("content", "style"):
        expected, targets = getattr(whole.targets, kind), getattr(bound.targets, kind)
        assert list(targets) == list(expected)
        for layer in expected:
            torch.testing.assert_close(targets[layer], expected[layer], rtol=1e-11, atol=0)


def test_every_engine_has_tiles_in_its_own_precisions():
    assert list(TILED) == list(ENGINES)
    for name, engine in ENGINES.items():
        assert TILED[name].name == name
        assert TILED[name].precisions == engine.precisions
    assert sum(STYLE_WEIGHTS) == 1


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_tiles_have_the_shapes_of_their_rows_on_a_gpu(precision):
    """On tensors without numbers: a GPU's convolutions have no rows of their own."""
    sheet, preset = DATA_SHEETS["h100"], PRESETS["gatys-pytorch"]
    with tracing(sheet.gpu) as tracer, stand_ins(tracer, sheet):
        image = torch.empty(1, 3, 96, 64, device="cuda")
        network = VGG19(weights_without_numbers(), preset.deepest_layer, preset.pooling)
        engine = TILED["fused"](
            network, preset.objective(96, 64), image, [image], [1.0], PRECISIONS[precision],
            Tiling(32, 32),
        )  # fmt: skip
        terms, gradient = engine.loss_and_grad(image)
    assert gradient.shape == image.shape
    assert len(terms.names) == len(preset.taps)

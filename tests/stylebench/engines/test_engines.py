"""Every engine against the fp64 reference: loss terms and gradient, preset by preset.

The oracle is the reference in fp64. An engine may be off by no more than twice what plain PyTorch
is at the same precision and layout (oneDNN adds in another order for channels-last than for NCHW:
over ten draws its loss terms are off by up to 3e-6 where NCHW's are by 8e-7), plus a floor. With
average pooling that holds for gradients too; a maximum whose two largest inputs differ by
less than a rounding sends its gradient elsewhere, in every implementation alike, so with max
pooling only the order of magnitude is comparable. Where there is a GPU, the engines are on it.
"""

from dataclasses import replace
from functools import cache

import pytest
import torch

from stylebench.engines import Compiled, Eager, Fused, Reference
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import PRESETS

from .built import ANYWHERE, DEVICE, build, evaluate, images, relative, worst

FLOOR = 2e-6  # relative; below it two fp32 roundings are a matter of luck


@pytest.fixture(scope="module")
def oracle(weights64):
    """(preset's name, pooling) -> what the fp64 reference finds for ``images``."""

    @cache
    def found(name, pooling):
        return evaluate(Reference, weights64, PRESETS[name], pooling, "fp64", images(weights64))

    return found


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("name", PRESETS)
def test_fused_is_as_right_as_plain_pytorch_in_fp32(weights, oracle, name, pooling):
    given = images(weights)
    preset = PRESETS[name]
    exact, slope = oracle(name, pooling)
    plain, plain_slope = evaluate(Eager, weights, preset, pooling, "fp32", given)
    terms, gradient = evaluate(Fused, weights, preset, pooling, "fp32", given)
    assert terms.names == plain.names == exact.names
    assert worst(terms, exact) <= 2 * worst(plain, exact) + FLOOR
    error, plain_error = relative(gradient, slope), relative(plain_slope, slope)
    assert gradient.shape == slope.shape
    assert error <= 2 * plain_error + (FLOOR if pooling == "average" else 1e-2)


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("name", PRESETS)
def test_fused_in_fp64_is_the_oracle(weights64, oracle, name, pooling):
    exact, slope = oracle(name, pooling)
    terms, gradient = evaluate(Fused, weights64, PRESETS[name], pooling, "fp64", images(weights64))
    torch.testing.assert_close(terms.values, exact.values, rtol=1e-11, atol=0)
    assert relative(gradient, slope) < 1e-11


@pytest.mark.parametrize("name", PRESETS)
def test_compiled_in_fp64_is_the_oracle(weights64, oracle, monkeypatch, name):
    """Traced and differentiated as for Inductor, which would take long over so many."""
    monkeypatch.setattr(Compiled, "backend", "aot_eager")
    preset = PRESETS[name]
    exact, slope = oracle(name, preset.pooling)
    terms, gradient = evaluate(
        Compiled, weights64, preset, preset.pooling, "fp64", images(weights64)
    )
    assert terms.names == exact.names
    torch.testing.assert_close(terms.values, exact.values, rtol=1e-11, atol=0)
    assert relative(gradient, slope) < 1e-11


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("case", ANYWHERE)
@pytest.mark.parametrize("engine", [Fused, Eager])
def test_taps_may_be_anywhere(weights64, engine, case, pooling):
    given = images(weights64)
    preset = replace(PRESETS["gatys-pytorch"], **ANYWHERE[case])
    exact, slope = evaluate(Reference, weights64, preset, pooling, "fp64", given)
    terms, gradient = evaluate(engine, weights64, preset, pooling, "fp64", given)
    assert terms.names == exact.names
    torch.testing.assert_close(terms.values, exact.values, rtol=1e-11, atol=0)
    assert relative(gradient, slope) < 1e-11


@pytest.mark.parametrize("value", [float("nan"), -float("nan"), float("inf")])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("engine", [Fused, Eager])
def test_an_image_that_is_lost_has_no_loss(weights, engine, precision, value):
    """Where ReLU is a maximum, as oneDNN's is, it makes 0 of NaN."""
    given = images(weights)
    given[-1][0, 1, 20, 20] = value
    preset = PRESETS["gatys-pytorch"]
    terms, _ = evaluate(engine, weights, preset, "max", precision, given)
    assert not terms.values.isfinite().any()


HALVES = [
    (precision, name, pooling)
    for precision in ("bf16", "fp16")
    for name in PRESETS
    for pooling in ("average", "max")
    # CPUs take seconds for fp16: there every preset has its own pooling only.
    if precision == "bf16" or pooling == PRESETS[name].pooling or DEVICE.type == "cuda"
]


@pytest.mark.parametrize(("precision", "name", "pooling"), HALVES)
def test_fused_is_as_right_as_plain_pytorch_in_half(weights, oracle, precision, name, pooling):
    given = images(weights)
    exact, slope = oracle(name, pooling)
    plain, plain_slope = evaluate(Eager, weights, PRESETS[name], pooling, precision, given)
    terms, gradient = evaluate(Fused, weights, PRESETS[name], pooling, precision, given)
    # A term is one number, which plain PyTorch may hit by luck: a rounding is allowed besides.
    rounding = torch.finfo(PRECISIONS[precision].dtype).eps
    assert worst(terms, exact) <= 2 * worst(plain, exact) + rounding
    assert relative(gradient, slope) <= 2 * relative(plain_slope, slope)
    assert relative(gradient, slope) < 0.3


def test_fused_sees_what_half_precision_rounds_off_the_image(weights, weights64):
    given = images(weights)
    coarse = given[-1].half().double()
    fine = coarse * (1 + 2**-13)  # rounds to the same fp16
    assert torch.equal(fine.half(), coarse.half())
    preset = PRESETS["gatys-pytorch"]

    def change(engine, weights, precision):
        at = [
            evaluate(engine, weights, preset, "average", precision, [*given[:-1], image])
            for image in (coarse, fine)
        ]
        return (at[1][0].total - at[0][0].total).item()

    exact = change(Reference, weights64, "fp64")
    assert change(Eager, weights, "fp16") == 0
    assert change(Fused, weights, "fp16") == pytest.approx(exact, rel=0.3)


@pytest.mark.parametrize("size", [(35, 49), (64, 33), (17, 16)])
def test_odd_sizes(weights64, size):
    given = images(weights64, 64, 64)
    content, first, second, image = (given[0], given[1], given[2], given[3])
    content, image = (each[..., : size[0], : size[1]] for each in (content, image))
    for pooling in ("average", "max"):
        both = [
            evaluate(
                engine, weights64, PRESETS["neural-style-pt"], pooling, "fp64",
                [content, first, second, image], size,
            )
            for engine in (Reference, Fused)
        ]  # fmt: skip
        torch.testing.assert_close(both[1][0].values, both[0][0].values, rtol=1e-11, atol=0)
        assert relative(both[1][1], both[0][1]) < 1e-11


@pytest.mark.parametrize("rows", [None, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_fused_gives_the_same_bits_again_and_leaves_the_image_alone(
    weights, narrow, precision, rows
):
    if rows:
        narrow(rows)  # strips, where there are any
    size = (48, 40)
    preset, given = PRESETS["neural-style-pt"], images(weights, *size)
    bound, image = build(Fused, weights, preset, "max", precision, given, size)
    before = image.clone()
    first = bound.loss_and_grad(image)
    kept = (first[0].values.clone(), first[1].clone())
    bound.loss_and_grad(image * 0.5)
    again = bound.loss_and_grad(image)
    assert torch.equal(image, before)
    assert torch.equal(kept[0], again[0].values)
    assert torch.equal(kept[1], again[1])
    assert torch.equal(kept[1], first[1])  # an earlier gradient is not overwritten


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_engines_built_alike_give_the_same_bits(weights, precision):
    given = images(weights, 48, 40)
    preset = PRESETS["gatys-pytorch"]
    found = [evaluate(Fused, weights, preset, "max", precision, given, (48, 40)) for _ in range(2)]
    assert torch.equal(found[0][0].values, found[1][0].values)
    assert torch.equal(found[0][1], found[1][1])


def test_two_engines_of_two_sizes_do_not_disturb_each_other(weights64):
    preset = PRESETS["gatys-pytorch"]
    small = images(weights64, 48, 40)
    large = images(weights64, 64, 64)
    a, x = build(Fused, weights64, preset, "max", "fp64", small, (48, 40))
    alone = a.loss_and_grad(x)[1].clone()
    b, y = build(Fused, weights64, preset, "max", "fp64", large)
    b.loss_and_grad(y)
    assert torch.equal(a.loss_and_grad(x)[1], alone)


def test_a_broken_engine_would_be_caught(weights, weights64, monkeypatch):
    """The bound of the fp32 test bites: one tap's gradient off by 1 %."""
    from stylebench.engines.fused import engine as fused

    original = fused.sk.style_tap_backward_
    monkeypatch.setattr(
        fused.sk, "style_tap_backward_", lambda g, x, s, P, c: original(g, x, s * 1.01, P, c)
    )
    given = images(weights)
    preset = PRESETS["gatys-pytorch"]
    _, slope = evaluate(Reference, weights64, preset, "average", "fp64", given)
    _, plain = evaluate(Reference, weights, preset, "average", "fp32", given)
    _, gradient = evaluate(Fused, weights, preset, "average", "fp32", given)
    assert relative(gradient, slope) > 2 * relative(plain, slope) + FLOOR


def test_compiled_is_the_reference_without_graph_breaks_or_recompiles(weights, weights64):
    preset = PRESETS["neural-style-pt"]
    given = images(weights, 32, 32)
    exact, slope = evaluate(Reference, weights64, preset, "average", "fp64", given, (32, 32))
    bound, image = build(Compiled, weights, preset, "average", "fp32", given, (32, 32))
    torch._dynamo.utils.counters.clear()
    terms, gradient = bound.loss_and_grad(image)
    with torch.compiler.set_stance("fail_on_recompile"):
        bound.loss_and_grad(image * 0.5)
    assert not torch._dynamo.utils.counters["graph_break"]
    torch.testing.assert_close(terms.values.cpu().double(), exact.values, rtol=1e-5, atol=0)
    assert relative(gradient.cpu().double(), slope) < 1e-5
    assert gradient.is_contiguous()


def test_a_process_may_compile_any_number_of_sizes(weights, monkeypatch):
    """torch.compile by itself gives up at the ninth."""
    monkeypatch.setattr(Compiled, "backend", "eager")
    preset = replace(PRESETS["gatys-pytorch"], style_layers={"relu1_1": 1.0}, content_layers={})
    for side in range(16, 16 + torch._dynamo.config.recompile_limit + 1):
        size = (32, side)
        given = images(weights, *size)
        bound, image = build(Compiled, weights, preset, "max", "fp32", given, size)
        expected, _ = build(Eager, weights, preset, "max", "fp32", given, size)
        terms, _ = bound.loss_and_grad(image)
        torch.testing.assert_close(terms.values, expected.loss_and_grad(image)[0].values)

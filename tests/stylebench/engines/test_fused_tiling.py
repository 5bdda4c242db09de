"""The fused engine in strips: what it finds is what it finds with whole maps."""

from dataclasses import replace

import pytest
import torch

from stylebench.engines import Fused
from stylebench.model.presets import PRESETS

from .built import ANYWHERE, build, evaluate, images, relative

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes maps whole")


@pytest.mark.parametrize("precision", ["fp64", "fp32"])
@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("case", ANYWHERE)
def test_an_iteration_in_strips_is_the_whole_one(weights64, narrow, case, pooling, precision):
    size = (51, 38)  # odd after the first pooling, and in the end one window high
    given = images(weights64, *size)
    preset = replace(PRESETS["gatys-pytorch"], **ANYWHERE[case])
    allowed = 1e-12 if precision == "fp64" else 2e-6
    whole, image = build(Fused, weights64, preset, pooling, precision, given, size)
    expected, slope = whole.loss_and_grad(image)
    for rows in (2, 6):
        narrow(rows)
        striped, _ = build(Fused, weights64, preset, pooling, precision, given, size)
        for _ in range(2):  # in the memory of the first
            terms, gradient = striped.loss_and_grad(image)
            torch.testing.assert_close(terms.values, expected.values, rtol=allowed, atol=0)
            assert relative(gradient, slope) <= allowed


def test_memory_that_is_used_again_leaves_results_alone(weights64, narrow):
    narrow(4)
    given = images(weights64, 48, 40)
    preset = PRESETS["gatys-pytorch"]
    engine, image = build(Fused, weights64, preset, "max", "fp64", given, (48, 40))
    terms, gradient = engine.loss_and_grad(image)
    kept = terms.values.clone(), gradient.clone()
    engine.loss_and_grad(image + 0.1)
    assert torch.equal(terms.values, kept[0])
    assert torch.equal(gradient, kept[1])


def test_two_odd_sizes_in_turn_go_through_strips_apart(weights64, narrow):
    sizes = [(51, 38), (35, 49)]
    preset = PRESETS["gatys-pytorch"]
    given = [images(weights64, *size) for size in sizes]
    whole = [
        evaluate(Fused, weights64, preset, "max", "fp64", each, size)
        for each, size in zip(given, sizes, strict=True)
    ]
    narrow(4)
    striped = [
        build(Fused, weights64, preset, "max", "fp64", each, size)
        for each, size in zip(given, sizes, strict=True)
    ]
    for _ in range(2):
        for (engine, image), (expected, slope) in zip(striped, whole, strict=True):
            terms, gradient = engine.loss_and_grad(image)
            torch.testing.assert_close(terms.values, expected.values, rtol=1e-12, atol=0)
            assert relative(gradient, slope) <= 1e-12

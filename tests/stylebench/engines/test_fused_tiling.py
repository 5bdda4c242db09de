"""The fused engine in tiles: its results are those of whole maps."""

import pytest
import torch

from stylebench.engines import Fused

from .problems import SHALLOW, TAP_CASES, build, evaluate, random_images, relative_error

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes maps whole")


@pytest.mark.parametrize("precision", ["fp64", "fp32-direct"])  # Winograd: test_conv.py
@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("preset", TAP_CASES)
def test_an_iteration_in_tiles_is_the_whole_one(
    weights, weights64, set_tile_rows, preset, pooling, precision
):
    # odd after the first pooling, and at the deepest layer one pooling window high
    size = (51, 38) if preset.deepest_layer == "pool5" else (15, 18)
    weights = weights64 if precision == "fp64" else weights
    images = random_images(weights, *size)
    tolerance = 1e-12 if precision == "fp64" else 2e-6
    whole, image = build(Fused, weights, preset, precision, images)
    expected, expected_gradient = whole.loss_and_grad(image)
    for rows in (2, 6):
        set_tile_rows(rows)
        tiled, _ = build(Fused, weights, preset, precision, images)
        for _ in range(2):  # the second time in the memory of the first
            terms, gradient = tiled.loss_and_grad(image)
            torch.testing.assert_close(terms.values, expected.values, rtol=tolerance, atol=0)
            assert relative_error(gradient, expected_gradient) <= tolerance


def test_memory_that_is_used_again_leaves_results_alone(weights64, set_tile_rows):
    set_tile_rows(4)
    engine, image = build(Fused, weights64, SHALLOW, "fp64", random_images(weights64, 24, 20))
    terms, gradient = engine.loss_and_grad(image)
    before = terms.values.clone(), gradient.clone()
    engine.loss_and_grad(image + 0.1)
    assert torch.equal(terms.values, before[0])
    assert torch.equal(gradient, before[1])


def test_tiled_engines_of_two_odd_sizes_do_not_disturb_each_other(weights64, set_tile_rows):
    problems = [random_images(weights64, *size) for size in ((27, 18), (17, 25))]
    whole = [evaluate(Fused, weights64, SHALLOW, "fp64", images) for images in problems]
    set_tile_rows(4)
    tiled = [build(Fused, weights64, SHALLOW, "fp64", images) for images in problems]
    for _ in range(2):
        for (engine, image), (expected, expected_gradient) in zip(tiled, whole, strict=True):
            terms, gradient = engine.loss_and_grad(image)
            torch.testing.assert_close(terms.values, expected.values, rtol=1e-12, atol=0)
            assert relative_error(gradient, expected_gradient) <= 1e-12

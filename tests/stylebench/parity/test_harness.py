"""Parity as a library and as a command, and that it bites."""

import json
from dataclasses import replace

import pytest
import torch

from stylebench.engines import LossTerms
from stylebench.engines.fused import engine as fused
from stylebench.model.precision import PRECISIONS
from stylebench.parity.errors import evaluate
from stylebench.parity.harness import LOSS_EXCESS, Check, allowed_excess, baseline, compare
from stylebench.transfer.inputs import load_inputs
from stylebench.transfer.settings import Settings

QUICK = Settings(
    weights="random", size=32, iterations=6, device="cpu", engine="fused", precision="fp32"
)


@pytest.fixture(scope="module")
def inputs(photo, painting):
    return load_inputs(photo, painting, QUICK)


@pytest.fixture(scope="module")
def base(inputs):
    return baseline(inputs, QUICK)


def failures(comparison):
    return [check.what for check in comparison.checks if not check.passed]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_fused_is_within_tolerance(inputs, base, precision):
    comparison = compare(inputs, replace(QUICK, precision=precision), base)
    assert failures(comparison) == []
    assert comparison.passed
    assert (comparison.engine, comparison.precision) == ("fused", precision)
    assert [check.what for check in comparison.checks] == [
        "loss at the start", "gradient at the start", "loss at the middle",
        "gradient at the middle", "loss at the end", "gradient at the end",
        "gradient at the start, average pooling", "gradient at the middle, average pooling",
        "gradient at the end, average pooling", "final loss above",
    ]  # fmt: skip
    assert len(comparison.losses) == 6
    assert comparison.ssim > 0.5


def test_the_reference_is_within_its_own_tolerance(inputs, base):
    comparison = compare(inputs, replace(QUICK, engine="reference"), base)
    assert comparison.passed
    assert comparison.final_loss == pytest.approx(base.final_loss)
    assert comparison.psnr > 100


def test_a_wrong_loss_is_caught(inputs, base, monkeypatch):
    original = fused.sk.style_loss_forward

    def wrong(x, target, weight):
        loss, slope = original(x, target, weight)
        return loss * 1.0001, slope

    monkeypatch.setattr(fused.sk, "style_loss_forward", wrong)
    found = failures(compare(inputs, QUICK, base))
    assert "loss at the start" in found
    assert "gradient at the start" not in found


@pytest.mark.parametrize("factor", [1.008, 0.9999, -1.0])
def test_a_wrong_gradient_is_caught(inputs, base, monkeypatch, factor):
    """With the default preset's max pooling, below which a hundredth would hide."""
    assert base.problem.preset.pooling == "max"
    original = fused.Fused._backward
    monkeypatch.setattr(fused.Fused, "_backward", lambda self, x: original(self, x) * factor)
    found = failures(compare(inputs, QUICK, base))
    for point in ("start", "middle", "end"):
        assert f"gradient at the {point}, average pooling" in found
    assert "loss at the start" not in found


def test_average_pooling_is_not_compared_twice(inputs):
    average = replace(QUICK, pooling="average")
    found = compare(inputs, average, baseline(inputs, average))
    assert failures(found) == []
    assert [check.what for check in found.checks if "average" in check.what] == []


def test_every_loss_term_is_recorded_by_name(inputs, base, monkeypatch):
    original = fused.sk.content_loss
    monkeypatch.setattr(fused.sk, "content_loss", lambda *given: original(*given) * 1.5)
    found = compare(inputs, QUICK, base).as_json()["terms"]
    assert [term["name"] for term in found[:6]] == [
        "content relu4_2", *(f"style relu{block}_1" for block in range(1, 6))
    ]  # fmt: skip
    assert [term["point"] for term in found[::6]] == ["start", "middle", "end"]
    total = sum(term["exact"] for term in found[-6:])
    for term in found[-6:]:
        by_hand = abs(term["value"] - term["exact"]) / total
        assert term["error"] == pytest.approx(by_hand)
        wrong = term["value"] / term["exact"] - 1
        assert wrong == pytest.approx(0.5 * (term["name"] == "content relu4_2"), abs=1e-4)


@pytest.mark.parametrize("from_evaluation", [1, 5])
def test_an_engine_that_gives_nan_fails_and_is_still_shown(
    inputs, base, monkeypatch, from_evaluation
):
    evaluations = []
    original = fused.Fused.loss_and_grad

    def spoilt(self, image):
        evaluations.append(image)
        terms, gradient = original(self, image)
        return terms, gradient * float("nan") if len(evaluations) >= from_evaluation else gradient

    monkeypatch.setattr(fused.Fused, "loss_and_grad", spoilt)
    comparison = compare(inputs, QUICK, base)
    assert not comparison.passed
    assert any("became NaN or infinite" in what for what in failures(comparison))
    assert comparison.picture.isfinite().all()
    record = json.loads(json.dumps(comparison.as_json(), allow_nan=False))
    assert not record["passed"]


def test_equal_pictures_are_valid_json(inputs, base):
    comparison = compare(inputs, replace(QUICK, engine="reference"), base)
    assert comparison.psnr == float("inf")
    assert json.loads(json.dumps(comparison.as_json(), allow_nan=False))["psnr"] is None


def test_pictures_too_small_to_compare_are_refused_before_the_run(inputs, monkeypatch):
    monkeypatch.setattr("stylebench.parity.harness.optimize", None)
    small = replace(QUICK, preset="pytorch-tutorial", size=14)
    with pytest.raises(ValueError, match=r"14 x 9 px are too few to compare pictures by: .* 11 px"):
        baseline(inputs, small)


def test_the_oracle_of_a_device_without_fp64_is_on_the_cpu(apple):
    class Engine:
        def loss_and_grad(self, image):
            return LossTerms(("a",), torch.ones(1).as_subclass(apple)), image

    terms, gradient = evaluate(Engine(), torch.ones(1, 3, 2, 2).as_subclass(apple))
    assert terms.dtype == gradient.dtype == torch.float64


def test_every_precision_has_a_limit():
    assert LOSS_EXCESS.keys() == PRECISIONS.keys()


def test_the_final_loss_has_a_fixed_limit_from_300_iterations_on():
    assert allowed_excess("fp16", 300) == LOSS_EXCESS["fp16"] == 0.002
    assert allowed_excess("bf16", 1000) == LOSS_EXCESS["bf16"] == 0.005
    assert allowed_excess("fp32", 100) == pytest.approx(3 * 0.005)


@pytest.mark.parametrize(("spread", "limit"), [(0.3, 0.6), (0.2, 0.4), (0.0, 0.25)])
def test_beyond_it_an_engine_may_be_off_by_twice_what_the_reference_is(inputs, base, spread, limit):
    lower = replace(base, final_loss=base.final_loss / 1.5)
    vars(lower)["spread"] = spread
    *_, check = compare(inputs, QUICK, lower).checks
    assert (check.what, check.limit) == ("final loss above", pytest.approx(limit))
    assert check.value == pytest.approx(0.5, abs=0.02)
    assert check.passed == (limit == 0.6)


def test_a_run_that_is_slower_to_descend_is_caught(inputs, base):
    assert 0 < base.spread < 0.05
    slow = replace(QUICK, learning_rate=0.1)
    assert failures(compare(inputs, slow, base)) == ["final loss above"]


def test_what_is_within_it_takes_no_second_reference(inputs, monkeypatch):
    base = baseline(inputs, QUICK)
    monkeypatch.setattr("stylebench.parity.harness.perturbed", None)
    assert compare(inputs, QUICK, base).passed


def test_a_check_fails_on_nan():
    assert Check("x", 0.5, 0.5).passed
    assert not Check("x", 0.6, 0.5).passed
    assert not Check("x", float("nan"), 0.5).passed

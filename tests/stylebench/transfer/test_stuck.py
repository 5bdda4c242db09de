"""Runs whose loss hardly fell say so."""

import warnings
from dataclasses import replace

import pytest
import torch

from stylebench.transfer.api import style_transfer
from stylebench.transfer.result import Diverged
from stylebench.transfer.run import is_stuck, is_unmoved
from stylebench.transfer.settings import Settings
from stylebench.transfer.stepper import LoggedStep
from stylebench.transfer.trace import Trace

SHALLOW = Settings(
    weights="random", size=32, iterations=60, device="cpu", precision="fp32",
    content_layers="relu1_2", style_layers="relu1_1",
)  # fmt: skip


def test_a_run_whose_every_step_is_rolled_back_ends_as_a_divergence(photo, painting):
    settings = Settings(
        weights="random", size=32, iterations=7, device="cpu", precision="fp32", engine="fused",
        optimizer="adam", learning_rate=1e30,
    )  # fmt: skip
    with pytest.raises(Diverged, match="in 7 iterations no step lowered the loss") as error:
        style_transfer(photo, painting, settings)
    start = style_transfer(photo, painting, replace(settings, iterations=1, learning_rate=None))
    assert torch.equal(error.value.result.rgb, start.rgb)


@pytest.mark.parametrize(
    ("losses", "failed", "stands"),
    [
        ([5, 9, 5, 9, 5], {2, 4}, True),
        ([5, 9], {2}, True),
        ([5, 9, 4, 9, 4], {2, 4}, False),  # half a step was good
        ([5, 9, 5, 5, 5, 5], {2}, False),  # steps without effect were not rolled back
        ([5, 6, 7], set(), False),  # L-BFGS climbs now and then
        ([5], set(), False),
        ([0, 0, 0], set(), False),
    ],
)
def test_a_standstill_is_rollbacks_alone(losses, failed, stands):
    trace = Trace(torch.zeros(1))
    steps = [
        LoggedStep({"style relu1_1": float(loss)}, index not in failed)
        for index, loss in enumerate(losses, start=1)
    ]
    assert trace.record(steps, 0.0, 1.0, patience=3) is None
    assert (trace.standstill() is not None) == stands
    trace.restart(torch.zeros(1))
    assert trace.standstill() is None


def rows(*losses):
    return [{"loss": loss} for loss in losses]


def test_a_fifth_of_the_first_loss_is_enough_and_a_short_run_has_no_verdict():
    assert is_stuck(rows(1.0, *[0.21] * 59))
    assert not is_stuck(rows(1.0, *[0.21] * 58))
    assert not is_stuck(rows(1.0, 0.2, *[0.9] * 58))
    assert not is_stuck(rows(*[0.0] * 60)), "there was nothing to do"
    assert is_stuck(rows(1.0, *[float("nan")] * 59))


@pytest.mark.parametrize(
    ("losses", "unmoved"),
    [
        ([5, 5, 5], True),
        ([5, 6], True),
        ([5, float("nan")], True),
        ([5, 6, 4, 6], False),
        ([5], False),  # there was no step
        ([0, 0], False),  # there was nothing to do
    ],
)
def test_one_lower_loss_is_a_move(losses, unmoved):
    assert is_unmoved(rows(*losses)) == unmoved


@pytest.mark.parametrize("init", ["content", "a picture"])
def test_a_run_of_any_length_that_no_step_helped_is_stuck(photo, painting, init):
    start = photo if init == "a picture" else init
    settings = replace(SHALLOW, iterations=2, learning_rate=1e-30, init=start)
    with pytest.warns(UserWarning, match="no step lowered the loss; learning_rate is 1e-30"):
        assert style_transfer(photo, painting, settings).stuck


@pytest.mark.parametrize(("rate", "stuck"), [(1e-6, True), (1.0, False)])
def test_a_run_that_is_stuck_warns(photo, painting, rate, stuck):
    settings = replace(SHALLOW, learning_rate=rate)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = style_transfer(photo, painting, settings)
    assert result.stuck == stuck
    assert any("not far from where it began" in str(w.message) for w in caught) == stuck

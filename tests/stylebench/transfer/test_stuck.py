"""Runs whose loss hardly fell say so."""

import warnings
from dataclasses import replace

import pytest

from stylebench.transfer.api import style_transfer
from stylebench.transfer.run import is_stuck
from stylebench.transfer.settings import Settings

SHALLOW = Settings(
    weights="random", size=32, iterations=60, device="cpu", precision="fp32",
    content_layers="relu1_2", style_layers="relu1_1",
)  # fmt: skip


def rows(*losses):
    return [{"loss": loss} for loss in losses]


def test_a_fifth_of_the_first_loss_is_enough_and_a_short_run_has_no_verdict():
    assert is_stuck(rows(1.0, *[0.21] * 59))
    assert not is_stuck(rows(1.0, *[0.21] * 58))
    assert not is_stuck(rows(1.0, 0.2, *[0.9] * 58))
    assert not is_stuck(rows(*[0.0] * 60)), "there was nothing to do"
    assert is_stuck(rows(1.0, *[float("nan")] * 59))


@pytest.mark.parametrize(("rate", "stuck"), [(1e-6, True), (1.0, False)])
def test_a_run_that_is_stuck_warns(photo, painting, rate, stuck):
    settings = replace(SHALLOW, learning_rate=rate)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = style_transfer(photo, painting, settings)
    assert result.stuck == stuck
    assert any("not far from where it began" in str(w.message) for w in caught) == stuck

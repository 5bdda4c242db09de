"""Shares of an error, also of nothing."""

from math import inf, isnan, nan

import pytest
import torch

from stylebench.parity.errors import deviation, relative


@pytest.mark.parametrize(
    ("error", "scale", "share"), [(1.0, 4.0, 0.25), (0.0, 0.0, 0.0), (1e-30, 0.0, inf)]
)
def test_no_error_of_nothing_is_no_error(error, scale, share):
    assert relative(error, scale) == share


def test_nan_stays_nan():
    assert isnan(relative(nan, 0.0))


def test_two_evaluations_of_nothing_are_equal():
    nothing = torch.zeros(3), torch.zeros(1, 3, 2, 2)
    assert deviation(nothing, nothing) == (0.0, 0.0)
    assert deviation((nothing[0] + 1, nothing[1]), nothing) == (inf, 0.0)

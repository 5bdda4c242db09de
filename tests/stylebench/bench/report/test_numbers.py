"""Numbers as people read them."""

import pytest

from stylebench.bench.report.numbers import figure, percent, ratio, si


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1.00"),
        (9.999, "10.0"),
        (99.96, "100"),
        (1234, "1,230"),
        (0.01234, "0.0123"),
        (2.1e-6, "2.10e-06"),
        (1.5e7, "1.50e+07"),
        (-2.5, "-2.50"),
    ],
)
def test_three_significant_digits(value, text):
    assert figure(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.53e9, "B", "1.53 GB"),
        (999.9, "B", "1.00 kB"),
        (999_960_000, "B", "1.00 GB"),
        (0.0123, "s", "12.3 ms"),
        (0.9999, "s", "1.00 s"),
        (4.2e-8, "s", "42.0 ns"),
        (3600, "s", "3,600 s"),
        (1.6e12, "FLOP/s", "1.60 TFLOP/s"),
        (0, "s", "0 s"),
    ],
)
def test_si_prefixes_change_where_the_rounded_number_does(value, unit, text):
    assert si(value, unit) == text


def test_shares_and_ratios():
    assert percent(0.612) == "61.2 %"
    assert ratio(4.312) == "4.31 \N{MULTIPLICATION SIGN}"

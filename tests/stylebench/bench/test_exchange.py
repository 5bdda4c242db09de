"""The bytes of an iteration on paper, and those that two processes send."""

from pathlib import Path

import pytest

from stylebench.bench.workloads.exchange import exchange, table
from stylebench.model.presets import PRESETS
from stylebench.transfer.settings import Settings

from .conftest import SHALLOW

GATYS = PRESETS["gatys-pytorch"]


def test_the_table_in_the_docs_is_the_models():
    page = Path(__file__).parents[3] / "docs" / "several-processes.md"
    assert table([8192, 32768], 8, GATYS, 2, 20) in page.read_text("utf-8")


def test_of_a_larger_picture_a_smaller_share_is_repeated_and_halos_grow_with_the_side():
    small, large = (exchange((side, side), 8, GATYS, 2, 20) for side in (8192, 16384))
    assert 0 < large.repeated < small.repeated < 0.1
    assert large.halos == 2 * small.halos
    assert large.sums == small.sums


def test_a_spectrum_crosses_between_processes_twice():
    """Each rank of two has half of 33 columns or one more, and half of 64 rows."""
    first, second = (exchange((64, 64), 2, GATYS, 4, 10, rank) for rank in (0, 1))
    assert first.spectrum == 3 * 8 * (32 * 17 + 32 * 16)
    assert second.spectrum == 3 * 8 * (32 * 16 + 32 * 17)


@pytest.mark.slow
def test_the_suite_sends_what_the_model_counts_and_proves_what_it_times(smallest):
    one, two = smallest("scaling", size=64).cases
    assert [case.status for case in (one, two)] == ["ok", "ok"]
    assert one.values["bytes sent an iteration"] == 0
    preset = Settings(**SHALLOW).resolved_preset()
    expected = exchange((48, 64), 2, preset, 4, 10, rank=0).total
    assert two.values["bytes sent an iteration"] == expected
    whats = [check.what for check in two.parity.checks]
    assert "gradient against one process" in whats
    assert two.values["efficiency"] == two.values["times one process"] / 2


@pytest.mark.slow
def test_a_picture_too_low_for_two_processes_is_a_failed_case(smallest):
    one, two = smallest("scaling", size=32).cases
    assert (one.status, two.status) == ("ok", "failed")
    assert "2 processes cannot share 24 rows" in two.note

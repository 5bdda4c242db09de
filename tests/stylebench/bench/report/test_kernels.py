"""Kernels in the report: each against the eager formulation of the very same work."""

import json

import pytest

from stylebench.bench.records.store import Stored
from stylebench.bench.report.frame import page_frame
from stylebench.bench.report.numbers import TIMES
from stylebench.bench.report.sections import sections
from stylebench.bench.suites import suite
from stylebench.bench.suites.base import Bench, Options

from .conftest import GPU, PASSED, Case, Path, kernels, record, timing


def kernel(name, seconds, **parameters):
    given = {"kernel": "pool", "layer": "relu1_1", "precision": "fp16", **parameters}
    return Case(name, given, parity=PASSED, timing=timing(seconds), roof_share=0.5)


def section(cases):
    stored = [Stored(Path("a.json"), record("kernels", GPU, cases))]
    return sections(page_frame(stored), stored)["roof"]


def column(table, title):
    index = [name for name, _ in table.columns].index(title)
    return [line[index] for line in table.rows]


def test_the_invented_kernels_are_like_the_suites():
    (job, *_) = suite("kernels").jobs(Bench(Options(quick=True, device="cpu")))
    (parameters, *_) = job.cases.values()
    for case in kernels():
        assert case.parameters.keys() <= parameters.keys()
        assert {"width", "height"} <= case.parameters.keys()


def test_a_kernel_is_held_against_eager_of_its_own_size():
    small, large = {"width": 512, "height": 512}, {"width": 2048, "height": 2048}
    cases = [
        kernel("a", 1.0, implementation="eager", **small),
        kernel("b", 0.5, implementation="stylekernels", **small),
        kernel("c", 16.0, implementation="eager", **large),
        kernel("d", 4.0, implementation="stylekernels", **large),
    ]
    ratios = [cell.sort for cell in column(section(cases).tables[0], "against eager")]
    assert ratios == pytest.approx([1, 2, 1, 4], rel=0.02)


def test_each_size_has_a_chart_of_its_own():
    charts = section(kernels()).charts
    assert [chart.title for chart in charts] == [
        f"Example GPU, 512 {TIMES} 384", f"Example GPU, 1024 {TIMES} 768"
    ]  # fmt: skip
    for chart in charts:
        for trace in json.loads(chart.figure)["data"]:
            assert len(set(trace["y"])) == len(trace["y"])  # one dot a line, not one upon another

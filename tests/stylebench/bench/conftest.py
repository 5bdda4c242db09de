"""Records made by hand."""

import pytest

from stylebench.bench.measure.statistics import timing
from stylebench.bench.measure.timing import Plan
from stylebench.bench.records.record import Case, Check, Code, Machine, Parity, Record, Software
from stylebench.bench.suites import suite
from stylebench.bench.suites.base import Bench, Options
from stylebench.bench.suites.runner import run_suite

BRIEF = Plan(target=1.0, seconds=0.01, least=1, most=2, warm_seconds=0.0, shortest=1e-6)
PROOF = Parity("a test", [Check("nothing", 0.0, 1.0, passed=True)])


def make_case(name="fused fp32 64x48", samples=(1.0, 1.0, 1.0), disturbed=(), **more):
    found = timing("perf_counter", samples, disturbed) if samples else None
    return Case(name, {"engine": "fused"}, parity=PROOF, timing=found, **more)


def make_record(*cases, **more):
    given = {
        "suite": "iteration", "started": "2026-03-14T15:09:26+00:00", "seconds": 5.0,
        "quick": False, "complete": True, "command": "stylebench bench iteration",
        "machine": Machine("A machine", "a-machine", "cpu"),
        "software": Software("Linux", "3.12", "2.11", "0.1"),
        "code": Code(None, None, "0" * 64), "roofs": [], "cases": list(cases),
    }  # fmt: skip
    return Record(**{**given, **more})


@pytest.fixture
def case():
    return make_case


@pytest.fixture
def record():
    return make_record


@pytest.fixture
def brief():
    """The shortest plan there is."""
    return BRIEF


@pytest.fixture
def smallest():
    """Runs a suite at its smallest; returns the record."""

    def run(name, folder=None, size=32, **options):
        bench = Bench(Options(quick=True, device="cpu", size=size, **options), folder)
        bench.plan = bench.roofs.plan = BRIEF
        return run_suite(suite(name), bench).record

    return run

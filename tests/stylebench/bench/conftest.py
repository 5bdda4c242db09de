"""Records made by hand, and suites run on the network's first two blocks at 32 px."""

import gc

import pytest

from stylebench.bench.gpu.stages import Stage
from stylebench.bench.machine.provenance import PACKAGES
from stylebench.bench.measure.statistics import timing
from stylebench.bench.measure.timing import Plan
from stylebench.bench.records.record import (
    Case,
    Code,
    Machine,
    Parity,
    Record,
    RecordedCheck,
    Software,
)
from stylebench.bench.suites import suite
from stylebench.bench.suites.base import Bench, Job, Options
from stylebench.bench.suites.runner import run_suite
from stylebench.bench.workloads import roofline
from stylekernels.native.sources import sources_hash

BRIEF = Plan(target=1.0, seconds=0.01, least=1, most=2, warm_seconds=0.0, shortest=1e-6)
PASSED = Parity("a test", [RecordedCheck("nothing", 0.0, 1.0, passed=True)])
#: Layers of a network that is a twentieth of VGG-19's work, and of its weights.
SHALLOW = {"style_layers": {"relu1_1": 1.0, "relu2_1": 1.0}, "content_layers": {"relu2_1": 1.0}}


class ShallowBench(Bench):
    """A bench whose engines go no deeper than relu2_1."""

    def settings(self, **choices):
        return super().settings(**{**SHALLOW, **choices})


def make_case(name="fused fp32 64x48", samples=(1.0, 1.0, 1.0), disturbed=(), **more):
    summed = timing("perf_counter", samples, disturbed) if samples else None
    return Case(name, {"engine": "fused"}, parity=PASSED, timing=summed, **more)


def make_record(*cases, **more):
    usual = {
        "suite": "iteration", "started": "2026-03-14T15:09:26+00:00", "seconds": 5.0,
        "quick": False, "complete": True, "command": "stylebench bench iteration",
        "machine": Machine("A machine", "a-machine", "cpu"),
        "software": Software("Linux", "3.12", "2.11", "0.1"),
        "code": Code(None, None, "0" * 64), "roofs": [], "cases": list(cases),
    }  # fmt: skip
    return Record(**{**usual, **more})


def single(name, parameters, run):
    """A job of one case."""
    return Job({name: parameters}, lambda _: [run()])


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


@pytest.fixture(scope="session", autouse=True)
def cheap_garbage_collection():
    """Cases collect garbage before each other; let that pass over the modules loaded so far."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def small_copies():
    """Measure the roof of copies on a megabyte."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roofline, "_QUICK_COPY_BYTES", 2**20)
        yield


def run_smallest(name, folder=None, size=32, **options):
    bench = ShallowBench(Options(quick=True, device="cpu", size=size, **options), folder)
    bench.plan = bench.roofline.plan = BRIEF
    return run_suite(suite(name), bench).record


@pytest.fixture
def smallest():
    """Runs a suite at its smallest; returns the record."""
    return run_smallest


def of_now(record, *cases, suite="smoke", **more):
    """A record that the code of now has made."""
    """A record of these sources, on this machine."""
    return record(*cases, suite=suite, code=Code(None, None, sources_hash(PACKAGES)), **more)


def script(text, limit=30.0):
    """A stage that runs a text."""
    return Stage("try", limit, lambda *_: ["-c", text])

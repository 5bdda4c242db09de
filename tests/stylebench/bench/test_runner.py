"""The runner survives what cases do, keeps what is finished, and goes on where it stopped."""

from io import StringIO

import pytest
import torch
from rich.console import Console
from rich.status import Status

from stylebench.bench.measure.memory import out_of_memory, peak_memory, release
from stylebench.bench.records.show import duration, summary
from stylebench.bench.suites import SUITES, suite
from stylebench.bench.suites.base import (
    Bench,
    Job,
    Options,
    failed_case,
    isolate,
    isolate_each,
    optional,
)
from stylebench.bench.suites.runner import matches, run_suite

from .conftest import single


class Listed:
    """A suite of given names, each with what it does."""

    name = "listed"

    def __init__(self, make, **work):
        self.make, self.work, self.ran = make, work, []

    def jobs(self, bench):
        for name, work in self.work.items():
            yield single(name, {"engine": name}, lambda name=name, work=work: self.run(name, work))

    def run(self, name, work):
        self.ran.append(name)
        if isinstance(work, BaseException):
            raise work
        return self.make(name)


@pytest.fixture
def bench():
    return Bench(Options(quick=True, device="cpu"))


def statuses(outcome):
    return {case.name: case.status for case in outcome.record.cases}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 3 bytes"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_running_out_of_memory_is_recorded_and_the_suite_goes_on(bench, case, error):
    outcome = run_suite(Listed(case, a=None, b=error, c=None), bench)
    assert statuses(outcome) == {"a": "ok", "b": "out of memory", "c": "ok"}
    assert outcome.record.complete


def test_a_failing_case_is_recorded_in_one_line(bench, case):
    outcome = run_suite(Listed(case, a=ValueError("no\nsuch thing"), b=None), bench)
    assert statuses(outcome) == {"a": "failed", "b": "ok"}
    assert outcome.record.cases[0].note == "ValueError: no such thing"
    assert outcome.record.cases[0].parameters == {"engine": "a"}


def test_progress_says_what_a_long_job_is_doing(bench, case, monkeypatch):
    said = []
    monkeypatch.setattr(Status, "update", lambda status, text: said.append(text))

    class Suite:
        name = "long"

        def jobs(self, bench):
            def run(names):
                bench.progress("building a")
                yield case("a")

            yield Job({"a": {}}, run)

    run_suite(Suite(), bench, Console(file=StringIO()))
    assert said == ["long 1/1: building a"]
    bench.progress("nobody listens any more")
    assert len(said) == 1


def test_ctrl_c_keeps_finished_cases(bench, case):
    outcome = run_suite(Listed(case, a=None, b=KeyboardInterrupt(), c=None), bench)
    assert outcome.interrupted
    assert statuses(outcome) == {"a": "ok"}
    assert not outcome.record.complete


def test_a_job_cut_short_keeps_the_cases_it_yielded(bench, case):
    class Suite:
        name = "pair"

        def jobs(self, bench):
            def run(names):
                yield case("a")
                raise RuntimeError("the second one")

            yield Job({"a": {}, "b": {}}, run)

    assert statuses(run_suite(Suite(), bench)) == {"a": "ok", "b": "failed"}


def test_every_case_is_kept_the_moment_it_is_there(bench, case):
    kept = []

    class Suite:
        name = "pair"

        def jobs(self, bench):
            def run(names):
                yield case("a")
                assert [len(record.cases) for record in kept] == [1]
                yield case("b")

            yield Job({"a": {}, "b": {}}, run)

    assert statuses(run_suite(Suite(), bench, keep=kept.append)) == {"a": "ok", "b": "ok"}
    assert [len(record.cases) for record in kept] == [1, 2]
    assert not any(record.complete for record in kept)


def test_the_first_jobs_alone_make_a_whole_record(case):
    some = Bench(Options(quick=True, device="cpu", first=2))
    outcome = run_suite(Listed(case, a=None, b=None, c=None), some)
    assert statuses(outcome) == {"a": "ok", "b": "ok"}
    assert outcome.record.complete
    with pytest.raises(ValueError, match="--first 0: expected 1 or more jobs"):
        Options(first=0).check()


def test_an_error_costs_only_its_own_case(case):
    def measure(name):
        if name == "b":
            raise RuntimeError("the second one")
        return case(name)

    cases = isolate_each({"b": {"engine": "b"}}, measure, "abc")
    assert [(one.name, one.status) for one in cases] == [("a", "ok"), ("b", "failed"), ("c", "ok")]


def test_a_name_may_have_no_case_yet(case):
    assert list(isolate_each({}, lambda name: None, "ab")) == []


def test_an_error_costs_the_rest_of_its_group_and_no_other_group(case):
    def run(names):
        yield case(names[0])
        if "b" in names:
            raise RuntimeError("the second one")

    cases = isolate({"b": {}, "c": {}}, run, ["a", "b", "c"], ["d"])
    assert [(one.name, one.status) for one in cases] == [
        ("a", "ok"), ("b", "failed"), ("c", "failed"), ("d", "ok")
    ]  # fmt: skip


def test_a_lacking_extra_costs_a_note():
    def fail():
        raise RuntimeError("CUDA\nout of memory")

    assert optional("parts", lambda: {"style": 1.0}, {}) == ({"style": 1.0}, None)
    assert optional("parts", fail, {}) == ({}, "no parts: CUDA out of memory")


def test_a_case_is_measured_when_it_is_asked_for(case):
    ran = []
    cases = isolate_each({}, lambda name: (ran.append(name), case(name))[1], "ab")
    next(cases)
    assert ran == ["a"]  # what is finished is kept, should the next one never end


@pytest.mark.parametrize(
    ("pattern", "expected"), [("fused", ["fused x"]), ("*e x", ["plane x"]), (None, None)]
)
def test_a_filter_is_a_part_of_a_name_or_a_glob(case, pattern, expected):
    names = ["fused x", "plane x", "other"]
    bench = Bench(Options(quick=True, device="cpu", pattern=pattern))
    outcome = run_suite(Listed(case, **dict.fromkeys(names)), bench)
    assert list(statuses(outcome)) == (expected or names)


def test_a_filter_that_matches_nothing_names_the_cases(case):
    bench = Bench(Options(device="cpu", pattern="absent"))
    with pytest.raises(ValueError, match="no case of listed matches 'absent': a, b"):
        run_suite(Listed(case, a=None, b=None), bench)
    assert matches("anything", None)


def test_without_time_no_case_is_started(case):
    outcome = run_suite(Listed(case, a=None), Bench(Options(device="cpu", seconds=-1)))
    assert not outcome.record.complete
    assert not outcome.interrupted
    assert statuses(outcome) == {}


def test_an_unfinished_record_is_gone_on_with(bench, case):
    first = run_suite(Listed(case, a=None, b=KeyboardInterrupt()), bench).record
    again = Listed(case, a=None, b=None)
    kept = []
    outcome = run_suite(again, bench, before=first, keep=kept.append)
    assert again.ran == ["b"]
    assert statuses(outcome) == {"a": "ok", "b": "ok"}
    assert outcome.record.complete
    assert outcome.record.started == first.started
    assert outcome.record.seconds > first.seconds
    assert [len(record.cases) for record in kept] == [2]


def test_every_suite_named_can_be_had():
    bench = Bench(Options(quick=True, device="cpu"))
    for name in SUITES:
        assert next(iter(suite(name).jobs(bench))).cases, name
    with pytest.raises(ValueError, match="unknown suite 'x': expected one of smoke, parity"):
        suite("x")


def test_a_case_in_one_line(case):
    assert summary(case(roof_share=0.5)) == (
        "fused fp32 64x48: 1 s +- 0.0 %, 1/s, 50 % of the roof"
    )
    assert summary(failed_case("a", {}, MemoryError())) == "a: out of memory"
    assert [duration(x) for x in (2.5, 2.5e-3, 2.5e-6, 2.5e-9)] == [
        "2.5 s", "2.5 ms", "2.5 us", "2.5 ns"
    ]  # fmt: skip
    assert not out_of_memory(ValueError("memory of an elephant"))


def test_peak_memory_is_what_the_block_took():
    device = torch.device("cpu")
    release(device)
    with peak_memory(device) as little:
        pass
    with peak_memory(device) as much:
        torch.ones(2**24)  # 64 MiB, touched
    if little.bytes is None:
        pytest.skip("this system does not tell")
    assert 2**25 < much.bytes - little.bytes < 2**28

"""Cases of two different runs never get into one record."""

from dataclasses import replace

import pytest

from stylebench.bench.records.overrides import pictures
from stylebench.bench.records.record import Code, Machine, Software
from stylebench.bench.records.resume import check_resumable
from stylebench.bench.suites.base import Bench, Options
from stylebench.bench.suites.runner import run_suite

from .conftest import single

MACHINE = Machine("A machine", "a-machine", "cpu")
PARAMETERS = {
    "weights": "random:0", "weights_sha256": "0", "content": "a.jpg", "threads": 2, "width": 64,
    "height": 48,
}  # fmt: skip


@pytest.fixture
def begun(record, case):
    return record(replace(case("a"), parameters=PARAMETERS), complete=False)


def test_what_would_have_made_the_same_record_may_go_on(begun):
    check_resumable(begun, replace(begun, cases=[], started="later"), {"a": PARAMETERS, "b": {}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "kernels"}, "the suite was iteration in the record and is kernels now"),
        ({"quick": True}, "--quick was not given in the record and is given now"),
        ({"machine": replace(MACHINE, slug="b")}, "the machine was a-machine"),
        ({"machine": replace(MACHINE, device="mps")}, "the device was cpu"),
        ({"machine": replace(MACHINE, gpu="NVIDIA X")}, "the GPU was none"),
        ({"machine": replace(MACHINE, instructions=["avx2"])}, "instructions was none"),
        ({"code": Code(None, None, "1" * 64)}, "the hash of the sources was 0000"),
        ({"software": Software("Linux", "3.12", "2.12", "0.1")}, "torch was 2.11"),
        ({"command": "x --content 'my own.jpg'"}, "--content was none .* is my own.jpg now"),
        ({"command": "x --style=b.jpg"}, "--style was none .* is b.jpg now"),
    ],
)
def test_another_run_is_refused_with_the_difference(begun, change, message):
    with pytest.raises(ValueError, match=message):
        check_resumable(begun, replace(begun, **change), {"a": PARAMETERS})


def test_a_gpu_may_have_another_host(begun):
    gpu = replace(MACHINE, device="cuda", gpu="NVIDIA X")
    before, now = (
        replace(begun, machine=replace(gpu, instructions=[name])) for name in ("avx2", "amx_tile")
    )
    check_resumable(before, now, {"a": PARAMETERS})


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ({"a": {**PARAMETERS, "weights": "random:1"}}, "weights of 'a' was random:0 .* random:1"),
        ({"a": {**PARAMETERS, "width": 32}}, "width of 'a' was 64"),
        ({"a": {**PARAMETERS, "weights_sha256": "1"}}, "weights_sha256 of 'a' was 0 .* 1"),
        ({"a": {**PARAMETERS, "content": "b.jpg"}}, "content of 'a' was a.jpg .* b.jpg"),
        ({"b": PARAMETERS}, "one with 'a' in the record and is one without it"),
    ],
)
def test_other_weights_and_sizes_are_refused(begun, cases, message):
    with pytest.raises(ValueError, match=message):
        check_resumable(begun, begun, cases)


def test_a_complete_record_is_refused(begun):
    with pytest.raises(ValueError, match="the record is complete"):
        check_resumable(replace(begun, complete=True), begun, {"a": PARAMETERS})


def test_the_runner_asks_before_it_runs_anything(case, record):
    class Suite:
        name = "iteration"

        def jobs(self, bench):
            yield single("a", {}, lambda: pytest.fail("ran"))

    bench = Bench(Options(device="cpu"))
    with pytest.raises(ValueError, match="the machine was a-machine"):
        run_suite(Suite(), bench, before=record(case("a"), complete=False))


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("", {}),
        ("stylebench bench parity --size 64", {}),
        ("x --content a.jpg --style 'b c.png'", {"content": "a.jpg", "style": "b c.png"}),
        ("x --content=a.jpg --filter style", {"content": "a.jpg"}),
        ("x --style it's.jpg", {"style": "it's.jpg"}),  # as older records have it
        ("x --style", {"style": ""}),
    ],
)
def test_own_pictures_are_read_from_the_command(command, files):
    assert pictures(command) == files

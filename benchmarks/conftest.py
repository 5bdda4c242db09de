"""Fixtures that let pytest-benchmark time ``stylebench.bench.workloads``, and note the machine."""

from collections.abc import Callable, Iterable
from dataclasses import asdict

import pytest
import torch

from stylebench.bench.machine.probe import machine
from stylebench.bench.machine.provenance import code, software
from stylebench.bench.measure.timing import QUICK, Candidate, measure
from stylebench.bench.records.record import RecordedCheck

DEVICES = ("cpu", *(("cuda",) if torch.cuda.is_available() else ()))
_ROUNDS = 7


def pytest_benchmark_update_machine_info(machine_info: dict) -> None:
    device = torch.device(DEVICES[-1])
    machine_info["stylebench"] = {
        "machine": asdict(machine(device)),
        "software": asdict(software()),
        "code": asdict(code()),
        "threads": torch.get_num_threads(),
    }


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def compiled_anew() -> None:
    """Forget what was compiled: the ninth shape of a function would quietly be run eagerly."""
    torch.compiler.reset()


@pytest.fixture
def timed(benchmark):
    """Checks, time, checks: a function of (device, candidate, checks, figures to note down).

    On a CPU pytest-benchmark's own rounds; on a GPU also the device's time in ``extra_info``, by
    the timing core: a wall clock includes what it takes to launch.
    """

    def run(
        device: str,
        candidate: Candidate,
        checks: Callable[[], Iterable[RecordedCheck]],
        **notes: float,
    ) -> None:
        require(checks())
        units = candidate.per_sample or candidate.multiple

        def once() -> None:
            candidate.run(units)
            if device == "cuda":
                torch.cuda.synchronize()

        benchmark.pedantic(once, rounds=_ROUNDS, iterations=1, warmup_rounds=2)
        if device == "cuda":
            timing = measure(candidate, torch.device(device), QUICK)
            notes |= {"device_seconds": timing.median, "device_spread": timing.spread}
        require(checks())
        benchmark.extra_info |= {"launches_a_round": units, **notes}

    return run


def require(checks: Iterable[RecordedCheck]) -> None:
    """Fail where a check does not hold: no time is kept then."""
    wrong = [f"{check.what}: {check.value} > {check.limit}" for check in checks if not check.passed]
    assert not wrong, f"no time is kept: {', '.join(wrong)}"

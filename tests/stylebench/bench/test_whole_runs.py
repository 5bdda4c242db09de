"""Suites of whole runs: a judged descent, a judged picture, and no time below what can be."""

import pytest
import torch

from stylebench.bench.measure.timing import LowerBound
from stylebench.bench.records.record import Point
from stylebench.bench.suites import stylize, suite, time_to_loss
from stylebench.bench.suites.base import Bench, Options
from stylebench.bench.suites.time_to_loss import first_below
from stylebench.bench.workloads.lower_bound import iteration_lower_bound
from stylebench.bench.workloads.roofline import ConvStack, Roofline
from stylebench.image.load import load_image
from stylebench.image.save import save_picture, to_pil
from stylebench.parity.harness import LOSS_EXCESS

CPU = torch.device("cpu")


def test_time_to_loss_keeps_a_judged_curve(smallest):
    record = smallest("time-to-loss", pattern="reference*content")
    (case,) = record.cases
    assert case.curve[0].seconds == 0
    seconds = [point.seconds for point in case.curve]
    assert seconds == sorted(seconds)
    assert 0.0 <= case.values["share disturbed"] <= 1.0
    # The reference passes the losses that it set itself, and later ones later.
    reached = [case.values[f"seconds_to_{mark}"] for mark in (4, 8, 12)]
    assert reached == sorted(reached)


def hour(*_, **__):
    return LowerBound(3600.0, "an hour at the rate measured here")


def test_a_descent_faster_than_its_products_is_an_error(smallest, monkeypatch):
    monkeypatch.setattr(time_to_loss, "iteration_lower_bound", hour)
    (case,) = smallest("time-to-loss", pattern="reference*content").cases
    assert case.status == "failed"
    assert "under its physical lower bound" in case.note
    assert (case.curve, case.values) == ([], {})


@pytest.fixture
def shell_runs(monkeypatch):
    """The suite stylize without its subprocesses: the picture is there, and each run takes 2 s."""

    def run(shell, engine, caches, iterations=None):
        save_picture(shell.folder / "out.png", to_pil(load_image(shell.folder / "content.png").rgb))
        return 2.0

    monkeypatch.setattr(stylize._Shell, "_seconds", run)
    monkeypatch.setattr(stylize._Shell, "_reached", lambda shell: shell.expected[0])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_picture_is_judged_by_what_made_it(smallest, monkeypatch, shell_runs, precision):
    monkeypatch.setattr(stylize, "chosen", lambda *_: precision)
    monkeypatch.setattr(stylize, "iteration_lower_bound", lambda *_: LowerBound(1.0, "nothing"))
    (case,) = smallest("stylize", pattern="fused").cases
    assert case.status == "ok", case.note
    limit = case.parity.checks[0].limit
    assert LOSS_EXCESS[precision] < limit < 2 * LOSS_EXCESS[precision]
    assert case.timing.samples == [2.0]
    assert case.values["warm_seconds"] == 2.0


@pytest.mark.slow
def test_the_command_itself_takes_the_options_that_it_is_run_with(smallest):
    (case,) = smallest("stylize", pattern="fused").cases
    assert case.status != "failed", case.note  # of five iterations the gate may think otherwise
    assert case.parity.checks


def test_a_shell_faster_than_its_iterations_is_an_error(smallest, monkeypatch, shell_runs):
    monkeypatch.setattr(stylize, "iteration_lower_bound", hour)
    (case,) = smallest("stylize", pattern="fused").cases
    assert (case.status, case.timing) == ("failed", None)
    assert "under its physical lower bound" in case.note


def test_the_lower_bound_of_many_iterations_is_that_many_times_one_ones(brief):
    roofline = Roofline(CPU, brief, quick=True)
    stack = ConvStack(None, "relu5_1")
    one, many = (
        iteration_lower_bound(roofline, stack, "fp32", (24, 32), n).seconds for n in (1, 300)
    )
    assert many == pytest.approx(300 * one)


def test_time_to_loss_runs_every_engine_and_its_scales_from_either_start():
    bench = Bench(Options(device="cpu", size=256))
    content, noise = (list(job.cases) for job in suite("time-to-loss").jobs(bench))
    for engine in ("reference", "eager", "compiled"):
        assert sum(name.startswith(engine) for name in content) == 1
    assert sum("torch-lbfgs" in name for name in content) == 1
    for names in (content, noise):
        assert sum("coarse to fine" in name for name in names) == 1


@pytest.mark.parametrize("start", ["content", pytest.param("noise", marks=pytest.mark.slow)])
def test_time_to_loss_counts_the_smaller_scales_too(smallest, start):
    (case,) = smallest("time-to-loss", size=128, pattern=f"*coarse to fine*{start}").cases
    assert case.status == "ok", case.note
    assert case.parameters["scales"] == "auto"
    assert case.curve[0].iteration == 0
    assert case.curve[0].seconds > 0.0
    assert case.values["target_12"] > 0.0


def test_the_first_point_at_or_below_a_loss():
    curve = [Point(0, 0, 9.0), Point(1, 1, 5.0), Point(2, 2, 7.0), Point(3, 3, 4.0)]
    assert first_below(curve, 5.0).seconds == 1
    assert first_below(curve, 4.5).seconds == 3
    assert first_below(curve, 1.0) is None

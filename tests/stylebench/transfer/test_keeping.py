"""Whatever ends a run: the exception is the one that was raised, and carries the best image."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from stylebench import (
    CheckpointConfig,
    CheckpointError,
    FileError,
    Interrupted,
    Keep,
    Settings,
    result_of,
    style_transfer,
)
from stylebench.transfer import api
from stylebench.transfer.problem import build_problem

from .problems import SHALLOW

QUICK = {
    "weights": "random", "size": 32, "iterations": 6, "device": "cpu", "precision": "fp32",
    **SHALLOW,
}  # fmt: skip


class OwnError(Exception):
    """A callback's own."""


ERRORS = [
    MemoryError("no memory"),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    OSError(errno.ENOSPC, "No space left on device"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OwnError("mine"),
    SystemExit(7),
]


def raising(error, at):
    def callback(step):
        if step.iteration == at:
            raise error

    return callback


def run(photo, painting, callback=None, keep=None, **more):
    return style_transfer(photo, painting, Settings(**QUICK | more), callback, keep=keep)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_an_exception_stays_itself_and_carries_the_best_image(photo, painting, error, engine):
    with pytest.raises(type(error)) as raised:
        run(photo, painting, raising(error, 4), engine=engine)
    assert raised.value is error
    result = result_of(error)
    assert len(result.history) == 4
    assert result.parameters["loss"] == min(row["loss"] for row in result.history)
    assert result.image.size == (32, 21)


def test_the_image_is_the_one_that_a_run_of_so_many_iterations_gives(photo, painting):
    with pytest.raises(OwnError) as raised:
        run(photo, painting, raising(OwnError(), 4), engine="fused")
    alone = run(photo, painting, engine="fused", iterations=4)
    assert torch.equal(result_of(raised.value).rgb, alone.rgb)


def failing_in(monkeypatch, failing, error):
    def build(inputs, settings, **more):
        if failing(settings):
            raise error
        return build_problem(inputs, settings, **more)

    monkeypatch.setattr(api, "build_problem", build)


@pytest.mark.parametrize(
    ("more", "failing", "done"),
    [
        pytest.param({"scales": {24: 3}}, lambda one: one.size == 32, 3, id="the next size"),
        pytest.param(
            {"precision": "bf16", "polish": 2},
            lambda one: one.precision == "fp32", 4, id="the polish",
        ),
    ],
)  # fmt: skip
def test_memory_that_runs_out_where_a_phase_begins_leaves_the_phase_before(
    photo, painting, monkeypatch, more, failing, done
):
    failing_in(monkeypatch, failing, MemoryError())
    with pytest.raises(MemoryError) as raised:
        run(photo, painting, engine="fused", **more)
    assert result_of(raised.value).parameters["iterations_done"] == done


def test_the_first_iteration_of_a_phase_that_fails_leaves_the_phase_before(photo, painting):
    with pytest.raises(OwnError) as raised:
        run(photo, painting, raising(OwnError(), 4), engine="fused", scales={24: 3})
    assert result_of(raised.value).image.size == (32, 21)  # the fourth was evaluated

    def on_start(problem):
        if problem.image.shape[-1] == 32:
            raise OwnError

    with pytest.raises(OwnError) as raised:
        style_transfer(photo, painting, Settings(**QUICK, scales={24: 3}), on_start=on_start)
    assert result_of(raised.value).image.size == (24, 16)


@pytest.mark.parametrize("kind", [OSError, SafetensorError])
def test_a_checkpoint_that_cannot_be_written_loses_no_image(
    photo, painting, tmp_path, monkeypatch, kind
):
    def full(*_):
        raise kind("No space left on device")

    monkeypatch.setattr("stylebench.transfer.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match=r"run.*: cannot be written: No space left") as raised:
        run(photo, painting, keep=Keep(tmp_path / "run.safetensors", 4), engine="fused")
    assert result_of(raised.value).parameters["iterations_done"] == 4


def test_an_interrupt_is_interrupted_by_its_cause(photo, painting):
    cause = KeyboardInterrupt()
    with pytest.raises(Interrupted) as raised:
        run(photo, painting, raising(cause, 4))
    assert raised.value.__cause__ is cause
    assert result_of(raised.value) is raised.value.result


def test_before_the_first_iteration_there_is_no_image(photo, painting, monkeypatch):
    for error in (MemoryError(), KeyboardInterrupt()):
        failing_in(monkeypatch, lambda _: True, error)
        with pytest.raises(type(error)) as raised:
            run(photo, painting)
        assert raised.value is error
        assert result_of(error) is None


def test_a_device_that_is_out_of_order_leaves_the_phase_before(photo, painting, monkeypatch):
    def broken(self, image):
        raise RuntimeError("device-side assert")

    def callback(step):
        if step.iteration == 5:
            monkeypatch.setattr("stylebench.transfer.problem.Problem.rgb", broken)
            raise OwnError

    with pytest.raises(OwnError) as raised:
        run(photo, painting, callback, scales={24: 3})
    assert result_of(raised.value).image.size == (24, 16)


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_carries_the_image(photo, painting):
    with pytest.raises(UserWarning, match="not far from where it began") as raised:
        run(photo, painting, iterations=60, learning_rate=1e-6, engine="reference")
    assert result_of(raised.value).parameters["iterations_done"] == 60


def test_a_checkpoint_file_is_checked_before_any_work(photo, tmp_path):
    with pytest.raises(FileError, match=r"folder .* does not exist"):
        run(photo, tmp_path / "absent.png", keep=Keep(tmp_path / "no" / "run.safetensors"))


def test_the_contents_credits_travel_with_the_result(photo, painting):
    content = photo.copy()
    content.info |= {"dpi": (300, 300), "Author": "Jane"}
    result = run(content, painting, iterations=1)
    assert (result.metadata.artist, result.metadata.dpi) == ("Jane", (300.0, 300.0))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda: "run.safetensors", "keep is 'run.safetensors': expected a stylebench.Checkpoint"),
        (lambda: True, "keep is True: expected a stylebench.CheckpointConfig, or None"),
        (lambda: CheckpointConfig(3), "3 is no path: expected a str or a pathlib.Path"),
        (
            lambda: CheckpointConfig(Path("a"), 0),
            "every is 0: expected a whole number of 1 or more",
        ),
        (lambda: CheckpointConfig(Path("a"), "2"), "every is '2': expected a whole number"),
    ],
)
def test_checkpoints_that_cannot_be_kept_are_refused(photo, painting, keep, message):
    with pytest.raises(ValueError, match=message):
        style_transfer(photo, painting, Settings(weights="random", size=32), keep=keep())

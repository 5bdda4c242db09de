"""A run's state: it begins, enters phases, and comes back from its file as it was."""

import pytest
import torch

from stylebench import CheckpointError, Settings
from stylebench.transfer.checkpoint import Checkpoint
from stylebench.transfer.observers import Observers
from stylebench.transfer.run import run_phase
from stylebench.transfer.schedule import make_schedule
from stylebench.transfer.state import RunState
from stylekernels.ops.lbfgs.state import REACH

from .problems import SHALLOW, problem_of

QUICK = {
    "weights": "random", "device": "cpu", "size": 32, "iterations": 3, "engine": "fused", **SHALLOW
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(photo, painting):
    """A state after its only phase, with the phase and the problem."""
    settings = Settings(**QUICK, precision="fp32")
    (phase,) = make_schedule(settings)
    problem = problem_of(photo, painting, settings)
    state = RunState.begin(phase, problem)
    run_phase(problem, state, Observers())
    return state, phase, problem


def test_a_state_comes_back_from_its_file_as_it_was(ran, tmp_path):
    state, phase, problem = ran
    state.checkpoint(problem).save(tmp_path / "run.safetensors")
    checkpoint = Checkpoint.load(tmp_path / "run.safetensors")
    loaded, same = RunState.load(checkpoint, phase, problem)
    assert torch.equal(loaded.image, state.image)
    assert torch.equal(same.image, state.start)
    assert loaded.trace.rows == state.trace.rows
    assert loaded.trace.best_loss == state.trace.best_loss
    saved, own = loaded.optimizer.state_dict(), state.optimizer.state_dict()
    assert saved.keys() == own.keys()
    assert all(torch.equal(saved[name], own[name]) for name in own)
    assert (loaded.phase_began, loaded.phase_ends) == (0, 3)


def test_a_run_reaches_further_as_its_loss_falls(ran):
    state, _, _ = ran
    losses = [row["loss"] for row in state.trace.rows]
    assert losses == sorted(losses, reverse=True)
    assert float(state.optimizer.state_dict()["scalars"][REACH]) > 1


def test_a_polish_keeps_image_and_optimizer_and_forgets_the_best(ran):
    state, _, problem = ran
    image, optimizer = state.image, state.optimizer
    best = state.trace.best_loss
    _, polish = make_schedule(Settings(**QUICK | {"precision": "bf16"}), polish=1)
    entered = state.enter(polish, problem)
    assert entered is problem
    assert state.image is image
    assert state.optimizer is optimizer
    assert best < float("inf")
    assert state.trace.best_loss == float("inf")
    assert torch.equal(state.trace.best, image)
    assert (state.phase_began, state.phase_ends) == (3, 4)


def test_what_the_smallest_size_changed_reaches_the_largest(photo, painting):
    settings = Settings(**QUICK | {"size": 64, "scales": {24: 1, 32: 1}})
    phases = make_schedule(settings)
    problems = [problem_of(photo, painting, phase.settings) for phase in phases]
    state = RunState.begin(phases[0], problems[0])
    state.trace.best.add_(0.25)
    for phase, problem in zip(phases[1:], problems[1:], strict=True):
        plain = problem.image.clone()
        entered = state.enter(phase, problem)
        torch.testing.assert_close(state.image, plain + 0.25)
        assert torch.equal(entered.image, state.image)
        assert torch.equal(state.start, plain)


def test_a_state_with_torchs_own_optimizer_is_not_saved(photo, painting, tmp_path):
    settings = Settings(**QUICK | {"engine": "reference"})
    (phase,) = make_schedule(settings)
    problem = problem_of(photo, painting, settings)
    with pytest.raises(CheckpointError, match="checkpoints need an optimizer that stays"):
        RunState.begin(phase, problem).checkpoint(problem).save(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []

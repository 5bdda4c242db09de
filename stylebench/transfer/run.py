"""One phase of a run, from its state to a result, however it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stylebench.image.save import to_pil
from stylebench.transfer.device import choose_learning_rate
from stylebench.transfer.loop import optimize
from stylebench.transfer.observers import Callback, Observers
from stylebench.transfer.problem import Problem
from stylebench.transfer.result import Diverged, Result, keeping
from stylebench.transfer.schedule import make_schedule
from stylebench.transfer.settings import Settings
from stylebench.transfer.state import RunState
from stylebench.transfer.trace import NonFinite
from stylebench.version import __version__
from stylebench.watch.step import Step

_TIME_TO_FALL, _FALLEN = 60, 0.2  # iterations, and the share of the first loss after them


def run_phase(
    problem: Problem, state: RunState, observers: Observers, before: Result | None = None
) -> Result:
    """Run the phase that ``state`` is in to its end.

    Args:
        problem: that of the phase.
        state: goes on by the phase's iterations.
        observers: are told of the start and of every iteration.
        before: the result of the phase before, for a run that ends without a good image here.

    Raises:
        Interrupted: on Ctrl-C, with the best image so far.
        Diverged: when a loss or gradient is not finite, with the best image before that.

    Any other exception stays as it is, and carries the best image too; see ``result_of``.
    """

    def on_row(row: dict[str, float]) -> None:
        iteration = int(row["iteration"])
        if observers.checkpoints and _is_due(state, iteration, observers.checkpoints.every):
            state.save(observers.checkpoints.path, problem)
        if observers.callback:
            observers.callback(_step(problem, state, row))

    def best() -> Result | None:
        return _best(problem, state) or before

    with keeping(best):
        if observers.on_start:
            observers.on_start(problem)
        optimizer, last = state.optimizer, state.phase_ends
        engine, trace = problem.engine, state.trace
        try:
            optimize(engine, state.image, optimizer, last, trace, on_row, observers.stops)
        except NonFinite as error:
            raise Diverged(error, best(), _advice(problem, error)) from error
        return _result(problem, state)


def run(problem: Problem, settings: Settings, callback: Callback | None = None) -> Result:
    """Run a problem built of ``settings``, at its one size and precision.

    Raises:
        Interrupted: as ``run_phase``.
        Diverged: likewise.
    """
    (phase,) = make_schedule(replace(settings, scales=None))
    return run_phase(problem, RunState.begin(phase, problem), Observers(callback))


def is_stuck(rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether so many iterations should have brought the loss down, and did not.

    Args:
        rows: one an iteration of a phase, with its loss.
    """
    losses = [row["loss"] for row in rows]
    return len(losses) >= _TIME_TO_FALL and not min(losses) <= _FALLEN * losses[0]


def is_unmoved(rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether no step lowered the loss, of those that could: a loss of 0 is the lowest.

    Args:
        rows: as for ``is_stuck``.
    """
    losses = [row["loss"] for row in rows]
    first, later = losses[0], losses[1:]
    return bool(later) and first > 0 and not any(loss < first for loss in later)


def _advice(problem: Problem, fault: NonFinite) -> str:
    """The settings behind a run that diverged, by name and value."""
    preset, parameters = problem.preset, problem.parameters
    terms = [fault.term] if fault.term else preset.objective(*problem.image.shape[-2:]).terms
    weights = dict.fromkeys(preset.weight_behind(term) for term in terms)
    advice = f"{' and '.join(weights)}: lower what is too large"
    if fault.iteration > 1:  # nothing has moved the image before the first evaluation
        rate = choose_learning_rate(parameters["learning_rate"], parameters["optimizer"])
        advice = f"learning_rate is {rate:g} and {advice}"
    if parameters["precision"] == "fp16":
        advice += ", or take precision bf16 or fp32, which reach further"
    return advice


def _is_due(state: RunState, iteration: int, every: int) -> bool:
    """Whether a checkpoint is due: only of the newest iteration, whose image there is."""
    newest = iteration == state.trace.done
    return newest and (iteration % every == 0 or iteration == state.phase_ends)


def _step(problem: Problem, state: RunState, row: dict[str, float]) -> Step:
    phase, done = state.phase, int(row["iteration"]) - state.phase_began
    first = state.trace.rows[state.phase_began]
    return Step.of(
        row,
        phase.total,
        phase.share(done),
        phase.seconds_to_go(done, first["seconds"], row["seconds"]),
        lambda: to_pil(problem.rgb(state.image), problem.alpha),
        phase.index,
    )


def _best(problem: Problem, state: RunState) -> Result | None:
    """The result so far; None before a first good image, and where the device is out of order."""
    if not state.trace.best_iteration:
        return None
    try:
        return _result(problem, state)
    except Exception:
        return None


def _result(problem: Problem, state: RunState) -> Result:
    trace = state.trace
    outcome = {
        "iterations_done": trace.done,
        "loss": trace.best_loss,
        "best_iteration": trace.best_iteration,
        "seconds": trace.rows[-1]["seconds"],
    }
    parameters = {"stylebench": __version__, **problem.parameters, **outcome}
    picture = problem.rgb(trace.best)
    return Result(picture, problem.alpha, trace.rows, parameters, metadata=problem.metadata)

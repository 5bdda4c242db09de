"""One phase of a run, from its state to a result, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from PIL import Image

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
    ranks = problem.ranks

    def on_row(row: dict[str, float]) -> None:
        iteration, checkpoint = int(row["iteration"]), None
        with ranks.apart():  # all processes put together what one of them writes or shows
            if observers.checkpoints and _is_due(state, iteration, observers.checkpoints.every):
                checkpoint = state.checkpoint(problem)
            show = _shower(problem, state, iteration, observers)
        with ranks.agreeing():
            if checkpoint and observers.checkpoints and ranks.first:
                checkpoint.save(observers.checkpoints.path)
            if observers.callback:
                observers.callback(_step(state, row, show))

    def best() -> Result | None:
        return _best(problem, state) or before

    with keeping(best):
        if observers.on_start:
            observers.on_start(problem)
        optimizer, last = state.optimizer, state.phase_ends
        engine, trace = problem.engine, state.trace
        try:
            optimize(engine, state.image, optimizer, last, trace, on_row, observers.stops, ranks)
        except NonFinite as error:
            where = _spoiled(problem)
            raise Diverged(error, best(), _advice(problem, error), where) from error
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


def _spoiled(problem: Problem) -> str:
    """The ranks whose part of the last loss was not finite, for a message."""
    spoiled = getattr(problem.engine, "spoiled", None)
    ranks = [] if spoiled is None else spoiled.nonzero().flatten().tolist()
    return f" on rank {', '.join(map(str, ranks))}" if ranks else ""


def _shower(
    problem: Problem, state: RunState, iteration: int, observers: Observers
) -> Callable[[], Image.Image]:
    """A function that makes the picture of now, as ``Step.picture``."""
    if problem.bands.ranks.alone:
        return lambda: to_pil(problem.rgb(state.image), problem.alpha)
    every = observers.sync_every
    if not every or iteration % every:
        return partial(_refuse_picture, every)
    rgb = problem.picture(state.image)
    return lambda: to_pil(rgb, problem.alpha if problem.ranks.first else None)


def _refuse_picture(every: int) -> Image.Image:
    raise ValueError(
        f"sync_every is {every}: of several processes' picture there is one at its multiples alone"
    )


def _step(state: RunState, row: dict[str, float], show: Callable[[], Image.Image]) -> Step:
    phase, done = state.phase, int(row["iteration"]) - state.phase_began
    first = state.trace.rows[state.phase_began]
    return Step.of(
        row,
        phase.total,
        phase.share(done),
        phase.seconds_to_go(done, first["seconds"], row["seconds"]),
        show,
        phase.index,
    )


def _best(problem: Problem, state: RunState) -> Result | None:
    """The result so far; None before a first good image, and where the device is out of order.

    Of processes that do not end together nobody can put the picture together.
    """
    if not state.trace.best_iteration or not problem.ranks.together:
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
    picture = problem.picture(trace.best)
    alpha = problem.alpha if problem.ranks.first else None
    return Result(picture, alpha, trace.rows, parameters, metadata=problem.metadata)

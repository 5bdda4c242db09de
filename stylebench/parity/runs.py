"""Whole runs for a comparison, as a user's: the polish included, one scale, ended by no fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from stylebench.transfer.loop import optimize
from stylebench.transfer.problem import Problem
from stylebench.transfer.schedule import make_schedule, polish_iterations
from stylebench.transfer.settings import Settings
from stylebench.transfer.state import RunState
from stylebench.transfer.trace import NonFinite, Trace


def run(
    problem: Problem,
    settings: Settings,
    marked: list[Tensor] | None = None,
    marks: tuple[int, ...] = (),
    build: Callable[[Settings], Problem] | None = None,
) -> tuple[Trace, NonFinite | None]:
    """Run a problem; return its trace, and the fault that ended it early.

    Args:
        problem: to be run.
        settings: it was built of.
        marked: gets the images that the marked iterations evaluated.
        marks: iterations, from 1.
        build: builds the problem of the polish, where ``settings`` have one.
    """
    images = [] if marked is None else marked
    phase, *polish = make_schedule(
        replace(settings, scales=None), polish_iterations(settings) if build else 0
    )
    state = RunState.begin(phase, problem)
    fault = _run_phase(problem, state, marks, images)
    for phase in polish if not fault else ():
        assert build is not None  # there is no polish without it
        problem = state.enter(phase, build(phase.settings))
        fault = _run_phase(problem, state, (), images)
    return state.trace, fault


def _run_phase(
    problem: Problem, state: RunState, marks: tuple[int, ...], images: list[Tensor]
) -> NonFinite | None:
    def keep(evaluated: int) -> None:
        images.extend([state.image.clone()] * marks.count(evaluated))

    keep(1)
    try:
        optimize(
            problem.engine,
            state.image,
            state.optimizer,
            state.phase_ends,
            state.trace,
            lambda row: keep(int(row["iteration"]) + 1),
        )
    except NonFinite as fault:
        return fault
    return None

"""Engines compared: terms and gradients with an fp64 oracle, whole runs with the reference.

The checks of a comparison:

- At three images of the reference's trajectory (start, middle, end) an engine's loss terms and
  gradient are compared with the fp64 reference. Its error may be twice that of plain PyTorch at
  the same precision, plus a floor where both are luck. A gradient is many numbers, whose error is
  the same for any two roundings; a loss is one, whose error may be next to nothing by luck, so
  there plain PyTorch's largest of the three images counts. Each term counts by its share of the
  loss: a term that is next to nothing may be wrong by all of itself.
- With max pooling, fp32's own error is lost in the few gradients that go elsewhere. So the gradient
  is compared with average pooling in place of max too, where 1e-5 would show.
- The engine runs by itself, as a user's run does, with the fp32 polish of bf16. The fp32
  reference, with its own targets, judges the final image: after 300 iterations the loss may be
  above the reference's by 0.2 % in fp16 and TF32 and by 0.5 % in every other precision, and in
  proportion more after fewer, when trajectories have not come together yet. Lower is no fault.
- Where that is exceeded, the reference runs twice more, from starts that differ by a rounding.
  L-BFGS without a line search may end elsewhere then, with some presets by a fifth: an engine may
  end above by twice the spread of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from stylebench.image.metrics import WINDOW, psnr, ssim
from stylebench.model.precision import in_fp64, with_fp64
from stylebench.parity.comparison import Check, Comparison, Term
from stylebench.parity.errors import Evaluation, deviation, errors, evaluate, perturbed
from stylebench.transfer.inputs import Inputs
from stylebench.transfer.loop import optimize
from stylebench.transfer.problem import Problem, build_problem
from stylebench.transfer.schedule import make_schedule, polish_iterations
from stylebench.transfer.settings import Settings
from stylebench.transfer.state import RunState
from stylebench.transfer.trace import NonFinite, Trace

__all__ = [
    "Baseline",
    "Check",
    "Comparison",
    "Term",
    "allowed_excess",
    "baseline",
    "compare",
]

FACTOR = 2.0  # limit of an engine's error, over plain PyTorch's
FLOOR = 2e-6  # relative gradient error that is luck in fp32
# A maximum of two inputs that differ by less than a rounding sends its gradient elsewhere, in every
# implementation alike: a few such positions change the gradient by up to this much.
MAX_POOLING_FLOOR = 1e-2
LOSS_EXCESS = {"fp32": 0.005, "tf32": 0.002, "bf16": 0.005, "fp16": 0.002, "fp64": 0.005}
AT_ITERATIONS = 300
_POINTS = ("start", "middle", "end")
_ROUNDED = 1e-6  # of an image's deviation: fp32 rounds otherwise, and nothing else


@dataclass(frozen=True)
class Baseline:
    """The reference's run in fp32, and the fp64 oracle at three images of it.

    Attributes:
        problem: the fp32 reference's.
        settings: its own.
        losses: of its run.
        final_loss: the lowest of them.
        picture: [3, H, W] in [0, 1].
        points: preprocessed images [1, 3, H, W] at start, middle and end.
        exact: fp64 loss terms and gradient at each.
        averaged: the same with average pooling in place of max; empty where it is average already.
    """

    problem: Problem
    settings: Settings
    losses: list[float]
    final_loss: float
    picture: Tensor
    points: list[Tensor]
    exact: list[Evaluation]
    averaged: list[Evaluation]

    @cached_property
    def spread(self) -> float:
        """Largest distance of the final losses of ``perturbed`` starts, as a share of its own."""
        distances = [0.0]
        for start in perturbed(self.problem.image, _ROUNDED):
            trace, fault = _run(replace(self.problem, image=start), self.settings)
            distances += [] if fault else [abs(trace.best_loss / self.final_loss - 1)]
        return max(distances)


def baseline(inputs: Inputs, settings: Settings) -> Baseline:
    """Run the reference in fp32 and evaluate the fp64 oracle along its way.

    Raises:
        ValueError: a setting or image that cannot be, or too few pixels to compare pictures by.
        NonFinite: the reference itself came to NaN.
    """
    # Both sides take the same optimizer: a run's distance is then the engine's alone.
    optimizer = "lbfgs" if settings.optimizer == "auto" else settings.optimizer
    single = replace(settings, engine="reference", precision="fp32", optimizer=optimizer)
    problem = build_problem(inputs, single)
    _check_size(problem.image)
    total = problem.preset.iterations
    points: list[Tensor] = []
    trace, fault = _run(problem, single, points, marks=(1, (total + 1) // 2, total))
    if fault:
        raise fault
    double = replace(single, precision="fp64", device=with_fp64(problem.image.device))
    return Baseline(
        problem=problem,
        settings=single,
        losses=[row["loss"] for row in trace.rows],
        final_loss=trace.best_loss,
        picture=problem.rgb(trace.best),
        points=points,
        exact=_exact(inputs, double, points),
        averaged=_exact(inputs, replace(double, pooling="average"), points)
        if problem.preset.pooling == "max"
        else [],
    )


def _exact(inputs: Inputs, settings: Settings, points: Sequence[Tensor]) -> list[Evaluation]:
    oracle = build_problem(inputs, settings)
    return [evaluate(oracle.engine, in_fp64(point).to(oracle.image)) for point in points]


def compare(inputs: Inputs, settings: Settings, base: Baseline) -> Comparison:
    """Hold the engine and precision that ``settings`` name against ``base``."""
    problem = build_problem(inputs, settings)
    precision = problem.parameters["precision"]
    evaluations = [evaluate(problem.engine, point) for point in base.points]
    checks = _at_points(evaluations, inputs, replace(settings, precision=precision), base)
    if base.averaged:
        checks += _averaged(inputs, replace(settings, precision=precision), base)
    trace, fault = _run(problem, settings, build=lambda other: build_problem(inputs, other))
    if fault:
        undone = 1 - len(trace.rows) / problem.preset.iterations
        checks.append(Check(f"{fault}: share of the run undone", undone, 0.0))
    judged, _ = base.problem.engine.loss_and_grad(trace.best.to(base.problem.image))
    final_loss = judged.total.item()
    excess = final_loss / base.final_loss - 1
    limit = allowed_excess(precision, problem.preset.iterations)
    if excess > limit:
        limit = max(limit, FACTOR * base.spread)
    checks.append(Check("final loss above", excess, limit))
    picture = problem.rgb(trace.best)
    return Comparison(
        engine=problem.engine.name,
        precision=precision,
        checks=checks,
        terms=_terms(evaluations, base),
        losses=[row["loss"] for row in trace.rows],
        final_loss=final_loss,
        psnr=psnr(picture, base.picture),
        ssim=ssim(picture, base.picture),
        largest_difference=(picture - base.picture).abs().max().item(),
        picture=picture,
    )


def _at_points(
    evaluations: Sequence[Evaluation], inputs: Inputs, settings: Settings, base: Baseline
) -> list[Check]:
    """Loss and gradient of an engine at the three images, beside plain PyTorch's there."""
    eager = build_problem(inputs, replace(settings, engine="eager")).engine
    points = zip(base.points, base.exact, strict=True)
    yardstick = [errors(eager, *point) for point in points]
    loss_limit = FACTOR * max(loss for loss, _ in yardstick) + FLOOR
    floor = MAX_POOLING_FLOOR if base.averaged else FLOOR
    checks = []
    for name, evaluation, exact, (_, eager_error) in zip(
        _POINTS, evaluations, base.exact, yardstick, strict=True
    ):
        loss, gradient = deviation(evaluation, exact)
        checks.append(Check(f"loss at the {name}", loss, loss_limit))
        checks.append(Check(f"gradient at the {name}", gradient, FACTOR * eager_error + floor))
    return checks


def _averaged(inputs: Inputs, settings: Settings, base: Baseline) -> list[Check]:
    """The gradient at the three images with average pooling in place of max."""
    settings = replace(settings, pooling="average")
    engine = build_problem(inputs, settings).engine
    eager = build_problem(inputs, replace(settings, engine="eager")).engine
    checks = []
    for name, point, exact in zip(_POINTS, base.points, base.averaged, strict=True):
        (_, error), (_, eager_error) = errors(engine, point, exact), errors(eager, point, exact)
        label = f"gradient at the {name}, average pooling"
        checks.append(Check(label, error, FACTOR * eager_error + FLOOR))
    return checks


def _terms(evaluations: Sequence[Evaluation], base: Baseline) -> list[Term]:
    names = base.problem.preset.objective(*base.problem.image.shape[-2:]).terms
    terms = []
    for point, (values, _), (exact, _) in zip(_POINTS, evaluations, base.exact, strict=True):
        shares = (values - exact).abs() / exact.sum()
        columns = names, values.tolist(), exact.tolist(), shares.tolist()
        terms += [Term(point, *row) for row in zip(*columns, strict=True)]
    return terms


def allowed_excess(precision: str, iterations: int) -> float:
    """The share of the reference's final loss that a run of ``precision`` may end above it."""
    return LOSS_EXCESS[precision] * max(1.0, AT_ITERATIONS / iterations)


def _check_size(image: Tensor) -> None:
    height, width = image.shape[-2:]
    if min(height, width) < WINDOW:
        raise ValueError(
            f"{width} x {height} px are too few to compare pictures by: every side needs {WINDOW} "
            "px or more; raise the size"
        )


def _run(
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

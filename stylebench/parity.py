"""Engines compared: terms and gradients with an fp64 oracle, whole runs with the reference.

What is held to what:

- At three images of the reference's trajectory (start, middle, end) an engine's loss terms and
  gradient are compared with the fp64 reference. Its error may be twice that of plain PyTorch at
  the same precision, plus a floor where both are luck. A gradient is many numbers, whose error is
  the same for any two roundings; a loss is one, whose error may be next to nothing by luck, so
  there plain PyTorch's largest of the three images counts.
- The engine runs by itself, and the fp32 reference, with its own targets, judges the image it ends
  with: after 300 iterations the loss may be above the reference's by 0.2 % in fp16 and TF32 and by
  0.5 % in every other precision, and in proportion more after fewer, when trajectories have not
  come together yet. Lower is no fault.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

from torch import Tensor

from stylebench.engines import Engine
from stylebench.images import ImageSource
from stylebench.likeness import WINDOW, psnr, ssim
from stylebench.loop import NonFinite, Trace, optimise
from stylebench.problem import Problem, Styles, pose
from stylebench.settings import Settings
from stylebench.transfer import optimiser_for

FACTOR = 2.0  # an engine's error over plain PyTorch's
FLOOR = 2e-6  # relative gradient error that is luck in fp32
# A maximum of two inputs that differ by less than a rounding sends its gradient elsewhere, in every
# implementation alike: a few such positions change the gradient by up to this much.
MAX_POOLING_FLOOR = 1e-2
LOSS_EXCESS = {"fp32": 0.005, "tf32": 0.002, "bf16": 0.005, "fp16": 0.002, "fp64": 0.005}
AT_ITERATIONS = 300
_POINTS = ("start", "middle", "end")


@dataclass(frozen=True)
class Check:
    """One comparison: what, the value found, the limit, and whether it holds."""

    what: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """NaN does not pass."""
        return self.value <= self.limit


@dataclass(frozen=True)
class Comparison:
    """One engine held against the reference.

    Attributes:
        engine: its name.
        precision: what it computed in.
        checks: what decides; one says so where its run came to NaN.
        losses: of its run, an entry an iteration, by its own account.
        final_loss: of its last image, by the fp32 reference's account.
        psnr: of its picture against the reference's, dB; infinite for equal pictures.
        ssim: structural similarity of the two pictures, at most 1.
        largest_difference: between the two pictures, of the range [0, 1].
        picture: [3, H, W] in [0, 1].
    """

    engine: str
    precision: str
    checks: list[Check]
    losses: list[float]
    final_loss: float
    psnr: float
    ssim: float
    largest_difference: float
    picture: Tensor

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Everything but the picture, ready for JSON: null stands for what is not finite."""
        record = {**vars(self), "passed": self.passed}
        record.pop("picture")
        record["checks"] = [{**asdict(check), "passed": check.passed} for check in self.checks]
        return _without_nan(record)


def _without_nan(value: Any) -> Any:
    """``value`` with None for every number in it that is not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


@dataclass(frozen=True)
class Baseline:
    """The reference's run in fp32, and its fp64 self at three points of it.

    Attributes:
        problem: the fp32 reference's.
        losses: of its run.
        final_loss: the lowest of them.
        picture: [3, H, W] in [0, 1].
        points: preprocessed images [1, 3, H, W] at start, middle and end.
        exact: fp64 loss terms and gradient at each.
    """

    problem: Problem
    losses: list[float]
    final_loss: float
    picture: Tensor
    points: list[Tensor]
    exact: list[tuple[Tensor, Tensor]]


def baseline(content: ImageSource, style: Styles, settings: Settings) -> Baseline:
    """Run the reference in fp32 and evaluate the fp64 oracle along its way.

    Raises:
        ValueError: a setting or image that cannot be, or too few pixels to compare pictures by.
        NonFinite: the reference itself came to NaN.
    """
    single = replace(settings, engine="reference", precision="fp32")
    problem = pose(content, style, single)
    _check_size(problem.image)
    total = problem.variant.iterations
    points: list[Tensor] = []
    trace, fault = _run(problem, single, points, marks=(1, (total + 1) // 2, total))
    if fault:
        raise fault
    oracle = pose(content, style, replace(single, precision="fp64")).engine
    exact = [evaluate(oracle, point.double()) for point in points]
    losses = [row["loss"] for row in trace.rows]
    return Baseline(problem, losses, trace.best_loss, problem.rgb(trace.best), points, exact)


def compare(content: ImageSource, style: Styles, settings: Settings, base: Baseline) -> Comparison:
    """Hold the engine and precision that ``settings`` name against ``base``."""
    problem = pose(content, style, settings)
    precision = problem.parameters["precision"]
    plain_settings = replace(settings, engine="plain", precision=precision)
    plain = pose(content, style, plain_settings).engine
    floor = MAX_POOLING_FLOOR if problem.variant.pooling == "max" else FLOOR
    points = list(zip(base.points, base.exact, strict=True))
    yardstick = [errors(plain, *point) for point in points]
    loss_limit = FACTOR * max(loss for loss, _ in yardstick) + FLOOR
    checks = []
    for name, point, (_, plain_gradient) in zip(_POINTS, points, yardstick, strict=True):
        loss, gradient = errors(problem.engine, *point)
        checks.append(Check(f"loss at the {name}", loss, loss_limit))
        limit = FACTOR * plain_gradient + floor
        checks.append(Check(f"gradient at the {name}", gradient, limit))
    trace, fault = _run(problem, settings)
    if fault:
        undone = 1 - len(trace.rows) / problem.variant.iterations
        checks.append(Check(f"{fault}: share of the run undone", undone, 0.0))
    judged, _ = base.problem.engine.loss_and_grad(trace.best.to(base.problem.image))
    final_loss = judged.total.item()
    limit = allowed_excess(precision, problem.variant.iterations)
    checks.append(Check("final loss above", final_loss / base.final_loss - 1, limit))
    picture = problem.rgb(trace.best)
    return Comparison(
        engine=problem.engine.name,
        precision=precision,
        checks=checks,
        losses=[row["loss"] for row in trace.rows],
        final_loss=final_loss,
        psnr=psnr(picture, base.picture),
        ssim=ssim(picture, base.picture),
        largest_difference=(picture - base.picture).abs().max().item(),
        picture=picture,
    )


def allowed_excess(precision: str, iterations: int) -> float:
    """How far above the reference's final loss, of it, a run of ``precision`` may end."""
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
) -> tuple[Trace, NonFinite | None]:
    """Run a problem; return its trace, and what ended it early.

    Args:
        problem: what to run.
        settings: it was posed with.
        marked: gets the images that the marked iterations evaluated.
        marks: iterations, from 1.
    """
    image = problem.image.clone()
    trace = Trace(best=image.clone())
    kept = [] if marked is None else marked

    def keep(evaluated: int) -> None:
        kept.extend([image.clone()] * marks.count(evaluated))

    keep(1)
    try:
        optimise(
            problem.engine,
            image,
            optimiser_for(settings, problem, image),
            problem.variant.iterations,
            trace,
            lambda row: keep(int(row["iteration"]) + 1),
        )
    except NonFinite as fault:
        return trace, fault
    return trace, None


def evaluate(engine: Engine, image: Tensor) -> tuple[Tensor, Tensor]:
    """Loss terms [K] and gradient [1, 3, H, W] at ``image``, in fp64."""
    terms, gradient = engine.loss_and_grad(image)
    return terms.values.double(), gradient.double()


def errors(engine: Engine, point: Tensor, exact: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Largest error of a loss term, of the loss; error of the gradient, of its norm.

    Args:
        engine: to be judged.
        point: preprocessed image [1, 3, H, W].
        exact: what ``evaluate`` found there with the oracle.
    """
    terms, gradient = evaluate(engine, point)
    loss = ((terms - exact[0]).abs().max() / exact[0].sum()).item()
    return loss, ((gradient - exact[1]).norm() / exact[1].norm()).item()

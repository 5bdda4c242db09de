"""Engines compared: terms and gradients with an fp64 oracle, whole runs with the reference.

The checks of a comparison:

- At three images of the reference's trajectory (start, middle, end) an engine's loss terms and
  gradient are compared with the fp64 reference. Its error may be twice that of plain PyTorch at
  the same precision, plus a floor where both are luck. A gradient is many numbers, whose error is
  the same for any two roundings; a loss is one, whose error may be next to nothing by luck, so
  there plain PyTorch's largest of the three images counts. Each term counts by its share of the
  loss: a term that is next to nothing may be wrong by all of itself.
- With max pooling, fp32's own error is lost in the few gradients that go elsewhere. So the gradient
  is compared with average pooling in place of max too, where 1e-5 would show. There a ReLU's zero
  does the same in a small image, so one of the three images may be off.
- Where plain PyTorch's own gradient is off by more than 0.1, a limit of twice that says nothing.
  Such a gradient is shown and not judged: the verdict rests on the run.
- The engine runs by itself, as a user's run does, with the fp32 polish of bf16. The reference runs
  in fp32 with the same optimizer and a history of 100, and judges both final images by its own
  targets: an engine's loss may be above the reference's by 0.2 % in fp16 and TF32 and by 0.5 % in
  every other precision, or by what an iteration still gains there: after a few iterations one
  more or less is worth percents. Lower is no fault.
- Where that is exceeded, engine and reference run twice more, from starts that differ by a
  rounding. L-BFGS without a line search ends elsewhere then. The mean of the engine's three losses
  is compared with that of the reference's, and may be above by twice the standard error of a
  difference of such means, as the reference's three tell it.
- The picture of the reference's second run stands beside the engine's, so that a reader can tell
  chaos from error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import sqrt
from statistics import mean, median, stdev

from torch import Tensor

from stylebench.image.metrics import WINDOW, psnr, ssim
from stylebench.model.precision import PRECISIONS, in_fp64, with_fp64
from stylebench.parity.comparison import Check, Comparison, Term
from stylebench.parity.errors import Evaluation, deviation, errors, evaluate, perturbed, relative
from stylebench.parity.runs import run
from stylebench.transfer.inputs import Inputs
from stylebench.transfer.problem import Problem, build_problem
from stylebench.transfer.settings import HISTORY, Settings
from stylebench.transfer.torch_state import own_torch_state
from stylebench.transfer.trace import NonFinite, Trace

__all__ = [
    "Baseline",
    "Check",
    "Comparison",
    "Term",
    "allowance",
    "baseline",
    "compare",
]

FACTOR = 2.0  # limit of an engine's error, over plain PyTorch's
FLOOR = 2e-6  # relative gradient error that is luck in fp32
# A maximum of two inputs that differ by less than a rounding sends its gradient elsewhere, in every
# implementation alike: a few such positions change the gradient by up to this much.
MAX_POOLING_FLOOR = 1e-2
LOSS_EXCESS = {
    "fp32": 0.005,
    "fp32-direct": 0.005,
    "tf32": 0.002,
    "bf16": 0.005,
    "fp16": 0.002,
    "fp64": 0.005,
}
UNINFORMATIVE = 0.1  # error of plain PyTorch's gradient, beyond which a limit says nothing
_POINTS = ("start", "middle", "end")
ROUNDED = 1e-6  # of an image's deviation: fp32 rounds otherwise, and nothing else


@dataclass(frozen=True)
class Ended:
    """The end of a run.

    Attributes:
        final_loss: of its best image, by the fp32 reference's account.
        picture: [3, H, W] in [0, 1].
    """

    final_loss: float
    picture: Tensor

    def likeness(self, other: Tensor) -> dict[str, float]:
        """PSNR in dB, SSIM and the largest difference to another picture [3, H, W]."""
        return {
            "psnr": psnr(other, self.picture),
            "ssim": ssim(other, self.picture),
            "largest_difference": (other - self.picture).abs().max().item(),
        }


@dataclass(frozen=True)
class Baseline:
    """The reference's run in fp32, and the fp64 oracle at three images of it.

    Attributes:
        problem: the fp32 reference's.
        settings: its own.
        losses: of its run.
        ended: with the lowest of them.
        points: preprocessed images [1, 3, H, W] at start, middle and end.
        exact: fp64 loss terms and gradient at each.
        averaged: the same with average pooling in place of max; empty where it is average already.
    """

    problem: Problem
    settings: Settings
    losses: list[float]
    ended: Ended
    points: list[Tensor]
    exact: list[Evaluation]
    averaged: list[Evaluation]
    _again: list[Ended] = field(default_factory=list)

    @property
    def final_loss(self) -> float:
        """The lowest loss of the run."""
        return self.ended.final_loss

    @property
    def picture(self) -> Tensor:
        """[3, H, W] in [0, 1], that the run ended with."""
        return self.ended.picture

    def again(self, count: int) -> list[Ended]:
        """The ends of ``count`` more runs of the reference, from starts that are rounded otherwise.

        They are run when they are first asked for; one that comes to NaN ends with what it had.
        """
        for start in self.nearby[len(self._again) : count]:
            trace, _ = run(replace(self.problem, image=start), self.settings)
            self._again.append(Ended(trace.best_loss, self.problem.rgb(trace.best)))
        return self._again[:count]

    @property
    def nearby(self) -> list[Tensor]:
        """The start images [1, 3, H, W] of those runs."""
        return list(perturbed(self.problem.image, ROUNDED))


@own_torch_state()
def baseline(inputs: Inputs, settings: Settings) -> Baseline:
    """Run the reference in fp32 and evaluate the fp64 oracle along its way.

    Raises:
        ValueError: a setting or image that cannot be, or too few pixels to compare pictures by.
        NonFinite: the reference itself came to NaN.
    """
    # Both sides take the same optimizer: a run's distance is then the engine's alone.
    optimizer = "lbfgs" if settings.optimizer == "auto" else settings.optimizer
    history = None if optimizer == "adam" else HISTORY
    single = replace(
        settings, engine="reference", precision="fp32", optimizer=optimizer, history=history,
        polish=None,
    )  # fmt: skip
    problem = build_problem(inputs, single)
    _check_size(problem.image)
    total = problem.preset.iterations
    points: list[Tensor] = []
    trace, fault = run(problem, single, points, marks=(1, (total + 1) // 2, total))
    if fault:
        raise fault
    double = replace(single, precision="fp64", device=with_fp64(problem.image.device))
    return Baseline(
        problem=problem,
        settings=single,
        losses=[row["loss"] for row in trace.rows],
        ended=Ended(trace.best_loss, problem.rgb(trace.best)),
        points=points,
        exact=_exact(inputs, double, points),
        averaged=_exact(inputs, replace(double, pooling="average"), points)
        if problem.preset.pooling == "max"
        else [],
    )


def _exact(inputs: Inputs, settings: Settings, points: Sequence[Tensor]) -> list[Evaluation]:
    oracle = build_problem(inputs, settings)
    return [evaluate(oracle.engine, in_fp64(point).to(oracle.image)) for point in points]


@own_torch_state()
def compare(inputs: Inputs, settings: Settings, base: Baseline) -> Comparison:
    """Hold the engine and precision that ``settings`` name against ``base``."""
    optimizer = base.settings.optimizer
    problem = build_problem(inputs, replace(settings, optimizer=optimizer))
    settings = replace(settings, precision=problem.parameters["precision"], optimizer=optimizer)
    evaluations = [evaluate(problem.engine, point) for point in base.points]
    checks, unjudged = _at_points(evaluations, inputs, settings, base)
    if base.averaged:
        averaged, not_judged = _averaged(inputs, settings, base)
        checks, unjudged = checks + averaged, unjudged + not_judged
    trace, fault = _own_run(problem, inputs, settings)
    ended = _judged(trace.best, base)
    if fault:
        undone = 1 - len(trace.rows) / problem.preset.iterations
        checks.append(Check(f"{fault}: share of the run undone", undone, 0.0))
    checks.append(_final_loss(ended, problem, inputs, settings, base))
    return Comparison(
        engine=problem.engine.name,
        precision=settings.precision,
        checks=checks,
        unjudged=unjudged,
        terms=_terms(evaluations, base),
        losses=[row["loss"] for row in trace.rows],
        final_loss=ended.final_loss,
        picture=ended.picture,
        **base.ended.likeness(ended.picture),
    )


def _own_run(
    problem: Problem, inputs: Inputs, settings: Settings
) -> tuple[Trace, NonFinite | None]:
    return run(problem, settings, build=lambda other: build_problem(inputs, other))


def _judged(image: Tensor, base: Baseline) -> Ended:
    """The end of a run whose best image [1, 3, H, W] is ``image``."""
    image = image.to(base.problem.image)
    terms, _ = base.problem.engine.loss_and_grad(image)
    return Ended(terms.total.item(), base.problem.rgb(image))


def _final_loss(
    ended: Ended, problem: Problem, inputs: Inputs, settings: Settings, base: Baseline
) -> Check:
    """The final loss beside the reference's; of three starts each, where one says too little."""
    limit = max(LOSS_EXCESS[settings.precision], gain_of_an_iteration(base.losses))
    excess = relative(ended.final_loss - base.final_loss, base.final_loss)
    if not excess > limit:
        return Check("final loss above", excess, limit)
    theirs = [base.final_loss, *(one.final_loss for one in base.again(2))]
    own = [ended.final_loss]
    for start in base.nearby:
        moved = replace(problem, image=start.to(problem.image))
        trace, _ = _own_run(moved, inputs, settings)
        own.append(_judged(trace.best, base).final_loss)
    return Check(
        "final loss above, mean of three starts",
        relative(mean(own) - mean(theirs), mean(theirs)),
        limit + allowance(theirs, len(own)),
    )


def gain_of_an_iteration(losses: Sequence[float]) -> float:
    """The share that one iteration takes off the loss, mean over the last tenth of a run."""
    lowest = list(accumulate(losses, min))
    count = min(max(1, len(losses) // 10), len(losses) - 1)
    if not count or not lowest[-1 - count]:
        return 0.0
    return 1 - (lowest[-1] / lowest[-1 - count]) ** (1 / count)


def allowance(losses: Sequence[float], runs: int) -> float:
    """Twice the standard error of the difference of two means, relative.

    Args:
        losses: final losses of the reference, from starts that are rounded otherwise.
        runs: the number of the engine's runs, whose spread is taken to be the reference's.
    """
    return relative(2 * sqrt(1 / len(losses) + 1 / runs) * stdev(losses), mean(losses))


Checks = tuple[list[Check], list[Check]]  # judged, and shown alone


def _at_points(
    evaluations: Sequence[Evaluation], inputs: Inputs, settings: Settings, base: Baseline
) -> Checks:
    """Loss and gradient of an engine at the three images, beside plain PyTorch's there."""
    eager = build_problem(inputs, _eager(settings)).engine
    points = zip(base.points, base.exact, strict=True)
    yardstick = [errors(eager, *point) for point in points]
    loss_limit = FACTOR * max(loss for loss, _ in yardstick) + FLOOR
    floor = MAX_POOLING_FLOOR if base.averaged else FLOOR
    checks: Checks = [], []
    for name, evaluation, exact, (_, eager_error) in zip(
        _POINTS, evaluations, base.exact, yardstick, strict=True
    ):
        loss, gradient = deviation(evaluation, exact)
        checks[0].append(Check(f"loss at the {name}", loss, loss_limit))
        gradient_check = Check(f"gradient at the {name}", gradient, FACTOR * eager_error + floor)
        checks[eager_error > UNINFORMATIVE].append(gradient_check)
    return checks


def _averaged(inputs: Inputs, settings: Settings, base: Baseline) -> Checks:
    """The gradient at the three images with average pooling in place of max.

    A value at a ReLU within a rounding of 0 sends its gradient elsewhere, in one image by luck: the
    largest of the three errors counts as the middle one.
    """
    settings = replace(settings, pooling="average")
    engine = build_problem(inputs, settings).engine
    eager = build_problem(inputs, _eager(settings)).engine
    points = list(zip(base.points, base.averaged, strict=True))
    found, eagers = ([errors(one, *point)[1] for point in points] for one in (engine, eager))
    checks: Checks = [], []
    for name, error, eager_error in zip(_POINTS, found, eagers, strict=True):
        label = f"gradient at the {name}, average pooling"
        check = Check(label, min(error, median(found)), FACTOR * eager_error + FLOOR)
        checks[eager_error > UNINFORMATIVE].append(check)
    return checks


def _eager(settings: Settings) -> Settings:
    """Plain PyTorch at the precision of ``settings``."""
    return replace(settings, engine="eager", precision=PRECISIONS[settings.precision].plain)


def _terms(evaluations: Sequence[Evaluation], base: Baseline) -> list[Term]:
    names = base.problem.preset.objective(*base.problem.image.shape[-2:]).terms
    terms = []
    for point, (values, _), (exact, _) in zip(_POINTS, evaluations, base.exact, strict=True):
        differences, whole = (values - exact).abs().tolist(), exact.sum().item()
        shares = [relative(difference, whole) for difference in differences]
        columns = names, values.tolist(), exact.tolist(), shares
        terms += [Term(point, *row) for row in zip(*columns, strict=True)]
    return terms


def _check_size(image: Tensor) -> None:
    height, width = image.shape[-2:]
    if min(height, width) < WINDOW:
        raise ValueError(
            f"{width} x {height} px are too few to compare pictures by: every side needs {WINDOW} "
            "px or more; raise the size"
        )

"""The proof that goes with a time: an engine held against the fp64 reference, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stylebench.bench.measure.memory import free_memory
from stylebench.bench.records.record import Check
from stylebench.bench.workloads.timed_run import Walk
from stylebench.engines import Engine
from stylebench.image.load import ImageSource
from stylebench.model.precision import with_fp64
from stylebench.parity.errors import deviation, evaluate, loss_error, perturbed
from stylebench.parity.harness import FACTOR, FLOOR, MAX_POOLING_FLOOR
from stylebench.transfer.device import choose_device
from stylebench.transfer.problem import pose
from stylebench.transfer.settings import Settings

ORACLE = "fp64 reference"

_APART = 1e-3  # of an image's deviation: other roundings, the same picture

_BYTES_A_PIXEL = 12_000  # that the oracle takes at its most, with some to spare


@dataclass(frozen=True)
class _Yardstick:
    """Plain PyTorch at one precision, and what it errs."""

    engine: Engine
    loss: float
    gradient: float


class Proof:
    """The oracle, its loss terms and gradient at the start image, and what an engine may err.

    An engine's error may be twice that of plain PyTorch at the same precision, as in
    ``stylebench.parity.harness``. A loss is one number, whose error may be next to nothing by luck, so
    there plain PyTorch's largest error counts, of the start and of two images a thousandth of its
    deviation away. A gradient is many numbers, whose error needs no company.

    The weights and targets of oracle and yardsticks are kept, but no features. Where the device has
    no fp64 the oracle is on the CPU, and so are all comparisons.
    """

    def __init__(self, content: ImageSource, style: ImageSource, settings: Settings) -> None:
        self._sources = content, style
        self._settings = settings
        self._device = choose_device(settings.device)
        double = replace(
            settings, engine="reference", precision="fp64", device=with_fp64(self._device)
        )
        oracle = pose(content, style, double)
        self._oracle: Engine = oracle.engine
        self._points = [oracle.image.float(), *perturbed(oracle.image.float(), _APART)]
        self._exact = self._exactly(self._points[0])
        self._exact_losses = [self._exactly(point)[0] for point in self._points[1:]]
        self._gradient_floor = MAX_POOLING_FLOOR if oracle.variant.pooling == "max" else FLOOR
        self._yardsticks: dict[str, _Yardstick] = {}

    def checks(self, engine: Engine, precision: str, when: str = "at the start") -> list[Check]:
        """Loss terms and gradient of ``engine``, which computes in ``precision``."""
        loss, gradient = self._errors(engine)
        plain = self._yardstick(precision)
        return [
            Check.of(f"loss {when}", loss, FACTOR * plain.loss + FLOOR),
            Check.of(f"gradient {when}", gradient, FACTOR * plain.gradient + self._gradient_floor),
        ]

    def goes_on(self, walk: Walk, precision: str) -> Check:
        """The loss terms that ``walk`` logs of one more iteration, launched as those timed.

        The engine itself is not asked: on CUDA what is timed is a graph captured of it. Plain
        PyTorch may err more where the walk has come to, and so counts there as well.
        """
        point = walk.image.to(self._points[0].device, copy=True)
        walk.advance(1)
        exact, _ = self._exactly(point)
        plain = self._yardstick(precision)
        allowed = max(plain.loss, loss_error(self._found(plain.engine, point)[0], exact))
        found = loss_error(walk.logged().to(exact), exact)
        return Check.of("loss logged by the timed loop", found, FACTOR * allowed + FLOOR)

    def _exactly(self, point: Tensor) -> tuple[Tensor, Tensor]:
        return evaluate(self._oracle, point.double())

    def _errors(self, engine: Engine) -> tuple[float, float]:
        """Of the loss, and of the gradient, at the start."""
        return deviation(self._found(engine, self._points[0]), self._exact)

    def _found(self, engine: Engine, point: Tensor) -> tuple[Tensor, Tensor]:
        """As ``evaluate``, by an engine that may be on another device than ``point``."""
        terms, gradient = engine.loss_and_grad(point.to(self._device))
        return terms.values.to(point.device).double(), gradient.to(point.device).double()

    def _yardstick(self, precision: str) -> _Yardstick:
        if precision not in self._yardsticks:
            settings = replace(self._settings, engine="eager", precision=precision)
            engine = pose(*self._sources, settings).engine
            loss, gradient = self._errors(engine)
            nearby = zip(self._points[1:], self._exact_losses, strict=True)
            others = [loss_error(self._found(engine, point)[0], exact) for point, exact in nearby]
            self._yardsticks[precision] = _Yardstick(engine, max(loss, *others), gradient)
        return self._yardsticks[precision]


def oracle_fits(size: tuple[int, int], device: torch.device) -> bool:
    """Whether the oracle has the memory for ``size`` (width, height), beside what is there."""
    free = free_memory(with_fp64(device))
    return free is not None and size[0] * size[1] * _BYTES_A_PIXEL < free


def finite(what: str, *tensors: Tensor) -> Check:
    """Whether every value is a number: the share of those that are not is 0."""
    wrong = sum(float((~torch.isfinite(tensor)).float().mean()) for tensor in tensors)
    return Check.of(f"{what}: share not finite", wrong, 0.0)


def passed(checks: Sequence[Check]) -> bool:
    """Whether there are checks and all hold."""
    return bool(checks) and all(check.passed for check in checks)

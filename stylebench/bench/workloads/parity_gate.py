"""The gate before a time: an engine held against the fp64 reference, before and after timing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stylebench.bench.measure.memory import free_memory
from stylebench.bench.records.record import RecordedCheck
from stylebench.bench.workloads.timed_run import TimedRun
from stylebench.engines import Engine
from stylebench.model.precision import PRECISIONS, with_fp64
from stylebench.parity.errors import deviation, evaluate, loss_error, perturbed
from stylebench.parity.harness import FACTOR, FLOOR, MAX_POOLING_FLOOR
from stylebench.transfer.device import choose_device
from stylebench.transfer.inputs import Inputs
from stylebench.transfer.problem import build_problem
from stylebench.transfer.settings import Settings

ORACLE = "fp64 reference"

_APART = 1e-3  # of an image's deviation: other roundings, the same picture

_BYTES_A_PIXEL = 12_000  # the oracle's peak, with some to spare


@dataclass(frozen=True)
class _Yardstick:
    """The eager engine at one precision, and its errors."""

    engine: Engine
    loss: float
    gradient: float


class ParityGate:
    """The fp64 oracle at the start image, and the errors that an engine is allowed there.

    An engine's error may be twice that of the eager engine at the same precision, as in
    ``stylebench.parity.harness``. A loss is one number, whose error may be tiny by luck, so its
    limit comes from eager's largest error at three images: the start, and two that are a thousandth
    of its deviation away. A gradient is many numbers, whose error one image suffices to tell.

    Weights and targets of oracle and yardsticks are kept, but no features. Where the device has no
    fp64 the oracle is on the CPU, and so are all comparisons.
    """

    def __init__(self, inputs: Inputs, settings: Settings) -> None:
        self._inputs = inputs
        self._settings = settings
        self._device = choose_device(settings.device)
        double = replace(
            settings, engine="reference", precision="fp64", device=with_fp64(self._device)
        )
        oracle = build_problem(inputs, double)
        self._oracle: Engine = oracle.engine
        self._points = [oracle.image.float(), *perturbed(oracle.image.float(), _APART)]
        self._exact = self._exactly(self._points[0])
        self._exact_losses = [self._exactly(point)[0] for point in self._points[1:]]
        self._gradient_floor = MAX_POOLING_FLOOR if oracle.preset.pooling == "max" else FLOOR
        self._yardsticks: dict[str, _Yardstick] = {}

    def checks(
        self, engine: Engine, precision: str, when: str = "at the start"
    ) -> list[RecordedCheck]:
        """Loss terms and gradient of ``engine``, which computes in ``precision``."""
        loss, gradient = self._errors(engine)
        eager = self._yardstick(precision)
        return [
            RecordedCheck.of(f"loss {when}", loss, FACTOR * eager.loss + FLOOR),
            RecordedCheck.of(
                f"gradient {when}", gradient, FACTOR * eager.gradient + self._gradient_floor
            ),
        ]

    def check_timed_loop(self, timed_run: TimedRun, precision: str) -> RecordedCheck:
        """The loss terms that ``timed_run`` logs of one more iteration, launched as those timed.

        The engine itself is not called: on CUDA the timed loop replays a graph captured of it.
        Eager's error may be larger at the run's current image than at the start, so it counts too.
        """
        point = timed_run.image.to(self._points[0].device, copy=True)
        timed_run.advance(1)
        exact, _ = self._exactly(point)
        eager = self._yardstick(precision)
        allowed = max(eager.loss, loss_error(self._evaluated(eager.engine, point)[0], exact))
        error = loss_error(timed_run.logged().to(exact), exact)
        return RecordedCheck.of("loss logged by the timed loop", error, FACTOR * allowed + FLOOR)

    def _exactly(self, point: Tensor) -> tuple[Tensor, Tensor]:
        return evaluate(self._oracle, point.double())

    def _errors(self, engine: Engine) -> tuple[float, float]:
        """Errors of loss and gradient at the start."""
        return deviation(self._evaluated(engine, self._points[0]), self._exact)

    def _evaluated(self, engine: Engine, point: Tensor) -> tuple[Tensor, Tensor]:
        """As ``evaluate``, by an engine that may be on another device than ``point``."""
        terms, gradient = engine.loss_and_grad(point.to(self._device))
        return terms.values.to(point.device).double(), gradient.to(point.device).double()

    def _yardstick(self, precision: str) -> _Yardstick:
        if precision not in self._yardsticks:
            plain = PRECISIONS[precision].plain
            settings = replace(self._settings, engine="eager", precision=plain)
            engine = build_problem(self._inputs, settings).engine
            loss, gradient = self._errors(engine)
            nearby = zip(self._points[1:], self._exact_losses, strict=True)
            others = [
                loss_error(self._evaluated(engine, point)[0], exact) for point, exact in nearby
            ]
            self._yardsticks[precision] = _Yardstick(engine, max(loss, *others), gradient)
        return self._yardsticks[precision]


def oracle_fits(size: tuple[int, int], device: torch.device) -> bool:
    """Whether the free memory suffices for an oracle at ``size`` (width, height)."""
    free = free_memory(with_fp64(device))
    return free is not None and size[0] * size[1] * _BYTES_A_PIXEL < free


def finite(what: str, *tensors: Tensor) -> RecordedCheck:
    """A check that every value of ``tensors`` is finite; ``what`` names them."""
    wrong = sum(float((~torch.isfinite(tensor)).float().mean()) for tensor in tensors)
    return RecordedCheck.of(f"{what}: share not finite", wrong, 0.0)


def passed(checks: Sequence[RecordedCheck]) -> bool:
    """Whether there are checks and all hold."""
    return bool(checks) and all(check.passed for check in checks)

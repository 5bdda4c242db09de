"""Steppers: one iteration, repeated by the host or by the device on its own.

An iteration evaluates the engine, steps the optimizer and logs the losses. ``HostStepper`` reads
every loss, as torch's optimizers need it. ``GraphStepper`` never does: losses go to a buffer on the
device, and on CUDA the whole iteration is one captured graph, so that repeating it costs the host a
single call.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines import Engine, LossTerms
from stylebench.optim.base import DeviceOptimizer, Optimizer

LOG_ROWS = 1024  # iterations that the device logs before it has to be read
WARMUP_STEPS = 3  # iterations before the capture: kernels are compiled and libraries set up in them


@dataclass(frozen=True)
class LoggedStep:
    """One logged evaluation.

    Attributes:
        terms: loss terms by name.
        finite: whether the terms and the gradient were.
    """

    terms: dict[str, float]
    finite: bool

    @property
    def loss(self) -> float:
        """The sum of the terms."""
        return sum(self.terms.values())


class Stepper(Protocol):
    """Moves an image by evaluating an engine and stepping an optimizer.

    Attributes:
        converged: the optimizer has said so; there is nothing left to do.
        syncs_every_step: whether the host waits for every iteration anyway; else it does well to
            ask for several at once.
        best_image: the image of the lowest finite loss so far, the first image before that.
    """

    converged: bool
    syncs_every_step: bool

    @property
    def best_image(self) -> Tensor:
        """[1, 3, H, W], preprocessed; not to be changed."""

    def advance(self, count: int) -> None:
        """Do ``count`` iterations, or fewer where they cannot go on; may return before they end."""

    def read(self) -> list[LoggedStep]:
        """Wait for what was started and return the rows that were not read before."""


def make_stepper(
    engine: Engine,
    optimizer: Optimizer | DeviceOptimizer,
    image: Tensor,
    capture: bool = True,
) -> Stepper:
    """The iteration that suits the optimizer, which is bound to ``image`` [1, 3, H, W].

    Args:
        engine: gives loss and gradient.
        optimizer: moves the image.
        image: preprocessed.
        capture: whether it may be repeated without the host, as ``GraphStepper`` does.
    """
    if isinstance(optimizer, DeviceOptimizer):
        return GraphStepper(engine, optimizer, image, capture)
    if image.is_cuda and engine.name != "reference":
        warnings.warn(
            f"engine {engine.name!r} waits for the host at every iteration, because tolerances "
            "take torch's own L-BFGS: slower; without them nothing leaves the GPU",
            stacklevel=2,
        )
    return HostStepper(engine, optimizer, image)


class HostStepper:
    """The plain loop: the host reads every loss, and stops at one that is not finite."""

    syncs_every_step = True

    def __init__(self, engine: Engine, optimizer: Optimizer, image: Tensor) -> None:
        self.converged = False
        self._engine, self._optimizer, self._image = engine, optimizer, image
        self._best = image.clone()
        self._best_loss = float("inf")
        self._rows: list[LoggedStep] = []

    @property
    def best_image(self) -> Tensor:
        """As ``Stepper.best_image``."""
        return self._best

    def advance(self, count: int) -> None:
        """As ``Stepper.advance``."""
        for _ in range(count):
            terms, gradient = self._engine.loss_and_grad(self._image)
            values = dict(zip(terms.names, terms.values.tolist(), strict=True))
            finite = all(map(isfinite, values.values())) and bool(gradient.isfinite().all())
            row = LoggedStep(values, finite)
            if finite and row.loss <= self._best_loss:
                self._best.copy_(self._image)
                self._best_loss = row.loss
            self._rows.append(row)
            self.converged = not finite or self._optimizer.step(gradient, terms.total)
            if self.converged:
                return

    def read(self) -> list[LoggedStep]:
        """As ``Stepper.read``."""
        rows, self._rows = self._rows, []
        return rows


class GraphStepper:
    """The loop without the host.

    Args:
        engine: whose ``loss_and_grad`` never waits for the device.
        optimizer: bound to ``image``; it rolls back by itself what is not finite.
        image: preprocessed [1, 3, H, W], moved in place.
        capture: repeat a captured graph where the device has them (CUDA).

    On CUDA the first iterations run one by one and are iterations like any other. Then one is
    captured, without being run, and from there on replayed.
    """

    converged = False

    def __init__(
        self, engine: Engine, optimizer: DeviceOptimizer, image: Tensor, capture: bool = True
    ) -> None:
        self._engine, self._optimizer, self._image = engine, optimizer, image
        self.syncs_every_step = not (capture and image.is_cuda)
        self._capture = capture and image.is_cuda
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream(image.device) if self._capture else None  # type: ignore[no-untyped-call]
        self._names: tuple[str, ...] = ()
        self._log = image.new_empty(0)
        self._next = torch.zeros(1, dtype=torch.int64, device=image.device)
        self._done = self._unread = 0
        self._rollbacks = float(optimizer.rollbacks)  # an optimizer may have been at work before

    @property
    def best_image(self) -> Tensor:
        """As ``Stepper.best_image``; a view of the optimizer's."""
        return self._optimizer.best_image

    @property
    def captured(self) -> bool:
        """Whether iterations are replays of a graph by now."""
        return self._graph is not None

    def advance(self, count: int) -> None:
        """As ``Stepper.advance``; at most ``LOG_ROWS`` between two reads are kept."""
        for _ in range(count):
            if self._capture and self._graph is None and self._done >= WARMUP_STEPS:
                self._graph = self._captured()
            if self._graph is not None:
                self._graph.replay()
            else:
                self._eager()
            self._done += 1
            self._unread += 1

    def read(self) -> list[LoggedStep]:
        """As ``Stepper.read``."""
        kept = min(self._unread, LOG_ROWS)
        if not kept:
            return []
        end = int(self._next) % LOG_ROWS
        logged = self._log.roll(kept - end, 0)[:kept].tolist()
        self._unread = 0
        return [self._row(values) for values in logged]

    def _row(self, values: list[float]) -> LoggedStep:
        *terms, rollbacks = values
        finite = rollbacks == self._rollbacks
        self._rollbacks = rollbacks
        return LoggedStep(dict(zip(self._names, terms, strict=True)), finite)

    def _once(self) -> None:
        terms, gradient = self._engine.loss_and_grad(self._image)
        self._optimizer.step(gradient, terms.total)
        self._write(terms)

    def _write(self, terms: LossTerms) -> None:
        if not self._names:
            self._names = terms.names
            self._log = terms.values.new_zeros(LOG_ROWS, len(terms.names) + 1)
        sk.log_row_(self._log, self._next, terms.values, self._optimizer.rollbacks)

    def _eager(self) -> None:
        if self._stream is None:
            self._once()
            return
        # Not the default stream: what libraries set up on it could not be captured afterwards.
        current = torch.cuda.current_stream(self._image.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._once()
        current.wait_stream(self._stream)

    def _captured(self) -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        try:
            # The stream's own context as well: a capture that fails leaves its stream current.
            # Thread-local: what other threads do with the GPU meanwhile is no fault of the capture.
            with (
                torch.cuda.device(self._image.device),
                torch.cuda.stream(self._stream),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                self._once()
        except Exception as error:  # compilers and drivers raise what they like
            self._capture = False
            cause = error.__context__ or error  # ending a capture that failed fails again
            reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
            warnings.warn(
                f"engine {self._engine.name!r} cannot be captured as a CUDA graph ({reason}); "
                "its iterations run one by one: slower, with the same result",
                stacklevel=2,
            )
            return None
        return graph

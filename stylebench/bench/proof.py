"""The proof that goes with a time: an engine held against the fp64 reference, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from stylebench.bench.record import Check
from stylebench.engines import Engine
from stylebench.images import ImageSource
from stylebench.parity import FACTOR, FLOOR, MAX_POOLING_FLOOR, errors, evaluate
from stylebench.problem import pose
from stylebench.settings import Settings

ORACLE = "fp64 reference"


class Proof:
    """The oracle's loss terms and gradient at the start image, and what an engine may err there.

    An engine's error may be twice that of plain PyTorch at the same precision, as in
    ``stylebench.parity``. Only one image and its gradient are kept.
    """

    def __init__(self, content: ImageSource, style: ImageSource, settings: Settings) -> None:
        self._sources = content, style
        self._settings = settings
        oracle = pose(content, style, replace(settings, engine="reference", precision="fp64"))
        self._point: Tensor = oracle.image.float()
        self._exact = evaluate(oracle.engine, self._point.double())
        self._gradient_floor = MAX_POOLING_FLOOR if oracle.variant.pooling == "max" else FLOOR
        self._plain: dict[str, tuple[float, float]] = {}

    def checks(self, engine: Engine, precision: str, when: str = "at the start") -> list[Check]:
        """Loss terms and gradient of ``engine``, which computes in ``precision``."""
        loss, gradient = errors(engine, self._point, self._exact)
        plain_loss, plain_gradient = self._plain_errors(precision)
        return [
            Check.of(f"loss {when}", loss, FACTOR * plain_loss + FLOOR),
            Check.of(f"gradient {when}", gradient, FACTOR * plain_gradient + self._gradient_floor),
        ]

    def _plain_errors(self, precision: str) -> tuple[float, float]:
        if precision not in self._plain:
            plain = replace(self._settings, engine="plain", precision=precision)
            engine = pose(*self._sources, plain).engine
            self._plain[precision] = errors(engine, self._point, self._exact)
        return self._plain[precision]


def finite(what: str, *tensors: Tensor) -> Check:
    """Whether every value is a number: the share of those that are not is 0."""
    wrong = sum(float((~torch.isfinite(tensor)).float().mean()) for tensor in tensors)
    return Check.of(f"{what}: share not finite", wrong, 0.0)


def passed(checks: Sequence[Check]) -> bool:
    """Whether there are checks and all hold."""
    return bool(checks) and all(check.passed for check in checks)

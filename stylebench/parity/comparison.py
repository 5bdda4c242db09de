"""The outcome of a comparison of two engines, for a table, a picture and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Check:
    """One measured error, its limit, and whether it holds."""

    what: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """NaN does not pass."""
        return self.value <= self.limit


@dataclass(frozen=True)
class Term:
    """One loss term at one of the three images.

    Attributes:
        point: ``start``, ``middle`` or ``end``.
        name: ``style relu1_1`` and so on.
        value: the engine's.
        exact: the fp64 reference's.
        error: their difference, of the whole loss.
    """

    point: str
    name: str
    value: float
    exact: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """One engine held against the reference.

    Attributes:
        engine: its name.
        precision: what it computed in.
        checks: those that decide; one says so where its run came to NaN.
        unjudged: gradients that plain PyTorch has wrong too, where a limit would say nothing.
        terms: every loss term at the three images.
        losses: of its run, an entry an iteration, by its own account.
        final_loss: of its best image, by the fp32 reference's account.
        psnr: of its picture against the reference's, dB; infinite for equal pictures.
        ssim: structural similarity of the two pictures, at most 1.
        largest_difference: between the two pictures, of the range [0, 1].
        picture: [3, H, W] in [0, 1].
    """

    engine: str
    precision: str
    checks: list[Check]
    unjudged: list[Check]
    terms: list[Term]
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
        record["unjudged"] = [asdict(check) for check in self.unjudged]
        record["terms"] = [asdict(term) for term in self.terms]
        return without_nan(record)


def without_nan(value: Any) -> Any:
    """``value`` with None for every number in it that is not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value

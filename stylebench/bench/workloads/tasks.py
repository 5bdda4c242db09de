"""A computation in several formulations: checked against fp64, then timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stylebench.bench.records.record import RecordedCheck

Outputs = tuple[Tensor, ...]
Formulation = Callable[..., Outputs]

ORACLE = "fp64 plain PyTorch"
FACTOR = 2.0  # an error over eager PyTorch's at the same precision
EAGER, OURS = "eager", "stylekernels"


@dataclass(frozen=True)
class Task:
    """One computation.

    Attributes:
        name: ``style forward``.
        layer: the layer that its operands have the shape of, ``relu1_1``.
        formulations: name -> function of the operands; errors are measured in those of
            ``eager``, ``compiled`` compiles when it is made.
        operands: arguments of every formulation and of the oracle.
        oracle: computes the outputs in fp64 from the operands.
        moved: bytes that must be read or written.
        flops: of products, two operations a multiply-add.
        unpack: makes of a formulation's outputs those of the oracle; untimed.
    """

    name: str
    layer: str
    formulations: Mapping[str, Callable[[], Formulation]]
    operands: tuple[Tensor, ...]
    oracle: Formulation
    moved: int
    flops: float = 0.0
    unpack: Callable[[Outputs], Outputs] = tuple

    def checks(self, formulation: Formulation, when: str = "before") -> list[RecordedCheck]:
        """Each output's error over eager's own, both against fp64; more than 2 is refused."""
        exact = self.oracle(*self.operands)
        eager = self.formulations[EAGER]()(*self.operands)
        values = self.unpack(formulation(*self.operands))
        return [
            RecordedCheck.of(
                f"error of output {index} over eager's, {when}", _ratio(*outputs), FACTOR
            )
            for index, outputs in enumerate(zip(values, eager, exact, strict=True))
        ]


def _ratio(value: Tensor, eager: Tensor, exact: Tensor) -> float:
    # A scalar is one draw of luck, so its floor is higher than an average's.
    floor = torch.finfo(value.dtype).eps * (1 if exact.dim() else 16)
    return relative_error(value, exact) / max(relative_error(eager, exact), floor)


def relative_error(value: Tensor, exact: Tensor) -> float:
    """|value - exact| / |exact|."""
    difference = value.double().reshape(exact.shape) - exact
    return float(difference.norm() / exact.norm())


def eager_and_compiled(
    eager: Formulation, strong: Formulation, ours: Formulation, baddbmm: bool = True
) -> dict[str, Callable[[], Formulation]]:
    """Name -> formulation; ``strong`` is the best in plain PyTorch, also listed as ``baddbmm``."""
    table: dict[str, Callable[[], Formulation]] = {EAGER: lambda: eager}
    if baddbmm:
        table["baddbmm"] = lambda: strong
    table["compiled"] = lambda: torch.compile(strong, dynamic=False)
    table[OURS] = lambda: ours
    return table


def copies(operands: Sequence[Tensor], bytes_wanted: int) -> list[tuple[Tensor, ...]]:
    """The operands and enough copies to fill ``bytes_wanted``, so that no cache holds the next."""
    size = max(1, sum(x.nbytes for x in operands))
    count = min(64, max(1, -(-bytes_wanted // size)))
    return [tuple(operands), *(tuple(x.clone() for x in operands) for _ in range(count - 1))]

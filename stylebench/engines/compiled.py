"""The compiled engine: ``Eager`` under torch.compile, the speed that ``Fused`` has to beat."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from stylebench.engines.eager import Eager

Result = TypeVar("Result")


class Compiled(Eager):
    """``Eager`` as two graphs, forward and backward, compiled at the first call.

    Attributes:
        backend: the compiler that torch.compile passes the graphs to.
    """

    name: ClassVar[str] = "compiled"
    backend: ClassVar[str] = "inductor"

    def _formulation(self) -> Callable[[Tensor], Tensor]:
        terms = with_own_code(self._loss_terms)
        return torch.compile(terms, fullgraph=True, dynamic=False, backend=self.backend)


def with_own_code(method: Callable[[Tensor], Result]) -> Callable[[Tensor], Result]:
    """A copy of ``method`` with its own code object.

    torch.compile limits the number of compilations per code object: the ninth engine in a process
    with another size or preset would be refused.
    """
    assert isinstance(method, MethodType)
    code, names = method.__func__.__code__, method.__func__.__globals__
    return MethodType(FunctionType(code.replace(), names), method.__self__)

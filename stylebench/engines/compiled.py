"""The eager formulation under torch.compile: the speed that the fused engine has to beat."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import ClassVar

import torch
from torch import Tensor

from stylebench.engines.eager import Eager


class Compiled(Eager):
    """``Eager`` as two graphs, forward and backward, compiled at the first call.

    Attributes:
        backend: what torch.compile hands the graphs to.
    """

    name: ClassVar[str] = "compiled"
    backend: ClassVar[str] = "inductor"

    def _formulation(self) -> Callable[[Tensor], Tensor]:
        terms = _copied(self._loss_terms)
        return torch.compile(terms, fullgraph=True, dynamic=False, backend=self.backend)


def _copied(method: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same method with a code object of its own.

    torch.compile counts what it compiled by code object, and at the ninth engine of a process, each
    with its own size or preset, it would refuse to go on.
    """
    assert isinstance(method, MethodType)
    code, names = method.__func__.__code__, method.__func__.__globals__
    return MethodType(FunctionType(code.replace(), names), method.__self__)

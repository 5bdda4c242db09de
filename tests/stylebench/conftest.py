"""Tensors that pretend to be on a GPU."""

import pytest
from torch import Tensor

from stylebench.model import precision


class Apple(Tensor):
    """A tensor as on an Apple GPU: it has no fp64, which only a copy on the CPU has."""

    def double(self) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self) -> Tensor:
        return self.as_subclass(Tensor)


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> type[Tensor]:
    """A class for ``x.as_subclass(apple)``, while no device multiplies fp64."""
    monkeypatch.setattr(precision, "multiplies_fp64", lambda device: False)
    return Apple


class PretendedGPU(Tensor):
    """A tensor that claims to be on a GPU."""

    is_cuda = True


@pytest.fixture
def pretended_gpu() -> type[Tensor]:
    """A class for ``x.as_subclass(pretended_gpu)``."""
    return PretendedGPU

"""The work of a kernel: the operands that it reads and writes, and its operations."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

Arithmetic = Literal["fp16", "bf16", "tf32", "fp32", "fp64"]

_NAMES: dict[torch.dtype, Arithmetic] = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float64: "fp64",
}


@dataclass(frozen=True)
class Work:
    """The least that a kernel has to do.

    Attributes:
        reads: operands, each read from memory once; a view stands for a part of one.
        writes: operands, each written once.
        flops: operations, two a multiply-add.
        arithmetic: of the operations.
    """

    reads: tuple[Tensor, ...]
    writes: tuple[Tensor, ...]
    flops: float = 0.0
    arithmetic: Arithmetic = "fp32"

    @property
    def read(self) -> int:
        """Bytes read."""
        return sum(map(bytes_of, self.reads))

    @property
    def written(self) -> int:
        """Bytes written."""
        return sum(map(bytes_of, self.writes))


def bytes_of(x: Tensor) -> int:
    """Return the bytes of the different elements of `x`: an expanded axis has one."""
    sizes = (size for size, stride in zip(x.shape, x.stride(), strict=True) if stride)
    return prod(sizes) * x.element_size()


def arithmetic_of(dtype: torch.dtype, tf32: bool = False) -> Arithmetic:
    """Return the arithmetic of products of `dtype`; fp32's may be allowed to be in TF32."""
    return _NAMES.get(dtype, "tf32" if tf32 else "fp32")

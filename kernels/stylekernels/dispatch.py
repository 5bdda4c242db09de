"""Which implementation a call gets: the Triton kernels or their plain-torch twins."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

_interpreting = False


@cache
def has_triton() -> bool:
    """Say whether Triton is installed (it is not on macOS and Windows)."""
    return importlib.util.find_spec("triton") is not None


def uses_triton(*tensors: Tensor | None) -> bool:
    """Say whether these operands go to the kernels.

    They do on a GPU that has Triton. fp64 always takes the twin: it is the oracle's precision,
    and tensor cores have little to give it.
    """
    given = [t for t in tensors if t is not None]
    if not has_triton() or any(t.dtype == torch.float64 for t in given):
        return False
    return all(t.is_cuda or (_interpreting and t.device.type == "cpu") for t in given)


@contextmanager
def interpreted() -> Iterator[None]:
    """Send CPU tensors to the kernels, for a process that runs under TRITON_INTERPRET=1.

    The interpreter's `tl.dot` returns garbage for bfloat16, without an error: test other dtypes.

    Raises:
        RuntimeError: Triton is missing, or was imported without TRITON_INTERPRET=1.
    """
    global _interpreting
    if not has_triton():
        raise RuntimeError("triton is not installed, so there is nothing to interpret")
    import triton

    if not triton.knobs.runtime.interpret:
        raise RuntimeError("set TRITON_INTERPRET=1 before Python starts: kernels are compiled now")
    _interpreting = True
    try:
        yield
    finally:
        _interpreting = False

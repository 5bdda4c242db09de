"""The choice between an operator's Triton kernels and its CPU code in plain torch."""

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from stylekernels.runtime.config import is_assuming

_interpreting = False


@cache
def has_triton() -> bool:
    """Say whether Triton is installed (it is not on macOS and Windows)."""
    return importlib.util.find_spec("triton") is not None


def uses_triton(*tensors: Tensor | None) -> bool:
    """Say whether these operands go to the kernels: on a GPU that can run them, in at most fp32.

    fp64 always takes plain torch: it is the oracle's precision, and tensor cores have little to
    give it.
    """
    operands = [t for t in tensors if t is not None]
    if any(t.dtype == torch.float64 for t in operands):
        return False
    if _interpreting and all(t.device.type == "cpu" for t in operands):
        return True
    return all(t.is_cuda and (is_assuming() or kernels_run(t.device)) for t in operands)


@cache
def kernels_run(device: torch.device) -> bool:
    """Say whether Triton's kernels work on a GPU, by running the smallest; warn where they do not.

    A GPU older than Triton supports, or a machine without a C compiler or without Triton, runs
    plain torch in their place.
    """
    reason = _fault(device) if has_triton() else "it is not installed"
    if reason:
        warnings.warn(
            f"Triton cannot run kernels on {device} ({reason}): plain PyTorch takes their place, "
            "slower, with the same results",
            stacklevel=2,
        )
    return not reason


def _fault(device: torch.device) -> str:
    from stylekernels.runtime.probe import fault  # imports Triton

    return fault(device)


@contextmanager
def interpreted() -> Iterator[None]:
    """Send CPU tensors to the kernels, in a process that runs under TRITON_INTERPRET=1.

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

"""Precisions: the dtypes that a user can name, and the arithmetic that each name promises."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from threading import Lock, get_ident
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Precision:
    """The arithmetic that an engine computes a network in.

    Attributes:
        name: its key in ``PRECISIONS``.
        dtype: of features and weights.
        tf32: whether fp32 convolutions may multiply in TF32 on CUDA's tensor cores: operands keep
            10 bits of fraction, sums are fp32. Matrix products, and so the losses, stay fp32, as
            they do by PyTorch's own defaults.
        rescaled: whether the network is rescaled by powers of two first, so that activations and
            gradients stay in fp16's range; see ``stylebench.engines.fp16_scaling``.
        winograd: whether the fused engine may convolve by Winograd's F(4 x 4, 3 x 3) on a CPU: a
            quarter of the products, with two to five times the rounding error.
        noisy: whether rounding shows in the gradient before a run ends: the last iterations are
            then polished in fp32.
    """

    name: str
    dtype: torch.dtype
    tf32: bool = False
    rescaled: bool = False
    winograd: bool = False
    noisy: bool = False

    @property
    def plain(self) -> str:
        """The precision that plain PyTorch has in its place: Winograd is the fused engine's."""
        return self.name.removesuffix("-direct")

    @property
    def wide(self) -> torch.dtype:
        """The dtype of images, losses, Gram matrices and targets: ``dtype``, but at least fp32."""
        return torch.promote_types(self.dtype, torch.float32)


#: Name -> precision. Only fp16 is rescaled: bf16 has fp32's range.
PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        "fp32": Precision("fp32", torch.float32, winograd=True),
        "fp32-direct": Precision("fp32-direct", torch.float32),
        "tf32": Precision("tf32", torch.float32, tf32=True),
        "bf16": Precision("bf16", torch.bfloat16, noisy=True),
        "fp16": Precision("fp16", torch.float16, rescaled=True),
        "fp64": Precision("fp64", torch.float64),
    }
)


def multiplies_fp64(device: torch.device) -> bool:
    """Whether ``device`` has fp64; Apple's GPUs do not."""
    return device.type != "mps"


def with_fp64(device: torch.device) -> torch.device:
    """``device``, or the CPU where it has no fp64."""
    return device if multiplies_fp64(device) else torch.device("cpu")


def in_fp64(x: Tensor) -> Tensor:
    """``x`` in fp64, on its device or, if that has no fp64, on the CPU."""
    return (x if multiplies_fp64(x.device) else x.cpu()).double()


# ``allow_tf32`` is never touched: torch refuses to mix the old switches with these.
_CUDA_CONVOLUTIONS: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
_SWITCHES: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    _CUDA_CONVOLUTIONS,
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
)


class _SharedSwitches:
    """torch's switches: set by the first block of all threads, brought back after the last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._blocks: dict[object, tuple[int, bool]] = {}  # -> its thread, whether it allows TF32
        self._callers: list[str] = []

    def enter(self, thread: int, tf32: bool) -> object:
        """Begin a block of a thread, and return what ends it."""
        block = object()
        with self._lock:
            if not self._blocks:
                self._callers = [switch.fp32_precision for switch in _SWITCHES]
            self._blocks[block] = thread, tf32
            self._set()
        return block

    def leave(self, block: object) -> None:
        """End a block, which need not be the innermost: a generator may be closed late."""
        with self._lock:
            del self._blocks[block]
            self._set()

    def _set(self) -> None:
        innermost = dict(self._blocks.values())  # of each thread
        tf32 = all(innermost.values())
        values = ["tf32" if tf32 and s is _CUDA_CONVOLUTIONS else "ieee" for s in _SWITCHES]
        for switch, value in zip(_SWITCHES, values if self._blocks else self._callers, strict=True):
            switch.fp32_precision = value


_shared = _SharedSwitches()


def _note_fork() -> None:
    global _shared
    _shared = _SharedSwitches()  # threads, and what they held, are not copied


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


@contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """Multiply within as ``precision`` says, whatever the caller's settings, and restore them.

    Products of fp32 are computed in fp32, never in TF32 or bf16, except that ``tf32`` allows TF32
    in convolutions on CUDA; not while another thread computes in something finer, since threads
    share the switches.
    """
    shared = _shared
    block = shared.enter(get_ident(), precision.tf32)
    try:
        yield
    finally:
        shared.leave(block)


def exact_arithmetic() -> AbstractContextManager[None]:
    """Compute fp32 products in fp32 within, whatever the caller's settings, and restore them."""
    return arithmetic(PRECISIONS["fp32"])

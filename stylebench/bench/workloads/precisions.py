"""Precisions of benchmarks: the roofline's arithmetic, and those worth a device's time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stylebench.engines import ENGINES
from stylebench.model.precision import PRECISIONS, exact_arithmetic
from stylebench.transfer.device import choose_precision, multiplies_bf16
from stylebench.transfer.settings import Settings

_HALVES = (torch.bfloat16, torch.float16)


@contextmanager
def product_arithmetic(precision: str) -> Iterator[None]:
    """Arithmetic of the roofline's products: TF32 for ``tf32``, else exact.

    Engines keep products in fp32 at ``tf32``, but their convolutions go as fast as this.
    """
    with exact_arithmetic():
        if precision == "tf32":
            matmul: Any = torch.backends.cuda.matmul
            matmul.fp32_precision = "tf32"  # restored by the block around
        yield


def worthwhile(engine: str, device: torch.device) -> list[str]:
    """Precisions that ``engine`` offers on ``device`` and that the device multiplies in hardware.

    fp64 is the oracle's, and fp32-direct the suite ``iteration``'s alone. Half precision on a
    processor that only emulates it would measure the emulation.
    """
    return [
        precision
        for precision in ENGINES[engine].precisions
        if precision not in ("fp64", "fp32-direct")
        and _accepted(precision, engine, device)
        and not _emulated(PRECISIONS[precision].dtype, device)
    ]


def chosen(engine: str, device: torch.device) -> str:
    """The precision that ``auto`` comes to."""
    return choose_precision(Settings(engine=engine), engine, device)


def _accepted(precision: str, engine: str, device: torch.device) -> bool:
    try:
        choose_precision(Settings(precision=precision), engine, device)
    except ValueError:
        return False
    return True


def _emulated(dtype: torch.dtype, device: torch.device) -> bool:
    if device.type != "cpu" or dtype not in _HALVES:
        return False
    return dtype == torch.float16 or not multiplies_bf16(device)

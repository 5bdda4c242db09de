"""Peak memory of a block of work, and the memory that is free."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from stylebench.engines.heap import malloc_trim
from stylebench.model.out_of_memory import out_of_memory as out_of_memory

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_PEAK = "5"  # resets the peak of the resident set, see proc(5)


@dataclass
class Peak:
    """Result of ``peak_memory``, filled in when the block ends.

    Attributes:
        bytes: peak over the block less the memory held before it, of the GPU or of the process;
            None where the device does not report it.
    """

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """InterferenceMonitor the block's memory."""
    gc.collect()
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    malloc_trim()  # free memory that is taken again would not count
    held = _resident("VmRSS")
    can_reset = device.type == "cpu" and _reset()
    yield peak
    highest = _resident("VmHWM")
    if can_reset and highest is not None and held is not None:
        peak.bytes = highest - held


def free_memory(device: torch.device) -> int | None:
    """Bytes that can be allocated on ``device``; None where nothing reports it."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    try:
        import psutil

        return int(psutil.virtual_memory().available)
    except Exception:  # absent, or this system keeps no such account
        return None


def release(device: torch.device) -> None:
    """Free the memory of finished cases, so that the next one finds the machine empty."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _reset() -> bool:
    try:
        _RESET.write_text(_PEAK)
    except OSError:
        return False
    return True


def _resident(field: str) -> int | None:
    try:
        match = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text())
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None

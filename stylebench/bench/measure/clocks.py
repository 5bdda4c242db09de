"""Clocks: the seconds that launched work takes, by device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch

Work = Callable[[], object]


class Clock(Protocol):
    """Takes the time of work.

    Attributes:
        name: as ``Timing.clock`` records it.
    """

    name: str

    def seconds(self, work: Work) -> float:
        """Run ``work`` and return the seconds until the device has finished it."""


class WallClock:
    """``perf_counter``, for devices that have finished when a call returns.

    Args:
        synchronize: waits for a device that has not (Apple's GPUs).
    """

    name = "perf_counter"

    def __init__(self, synchronize: Work | None = None) -> None:
        self._synchronize = synchronize or (lambda: None)

    def seconds(self, work: Work) -> float:
        """As ``Clock.seconds``."""
        self._synchronize()
        start = time.perf_counter()
        work()
        self._synchronize()
        return time.perf_counter() - start


class EventClock:
    """CUDA events around the work, on the current stream.

    Args:
        device: a CUDA one.
        name: ``cuda events``, or ``cuda graph`` where the work replays one.
    """

    def __init__(self, device: torch.device, name: str = "cuda events") -> None:
        self.name = name
        self._device = device

    def seconds(self, work: Work) -> float:
        """As ``Clock.seconds``."""
        with torch.cuda.device(self._device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            work()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1e3


def clock_for(device: torch.device, replays: bool = False) -> Clock:
    """The clock for work on ``device``; ``replays`` says that the work replays a CUDA graph."""
    if device.type == "cuda":
        return EventClock(device, "cuda graph" if replays else "cuda events")
    return WallClock(torch.mps.synchronize if device.type == "mps" else None)


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has finished all work launched on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

"""Samples, and the monitors that flag those during which something interfered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from stylebench.bench.machine.probe import state
from stylebench.bench.records.record import State

_Account = tuple[float, float, float]

_WINDOW = 0.1  # s; shorter spans of processor accounting are rounding
_OTHERS = 0.2  # cores that other processes may take before a sample counts as disturbed
_CLOCK_FALL = 0.05  # of the highest clock seen


@dataclass
class Samples:
    """Times in the order taken, and which of them were disturbed.

    Attributes:
        seconds: all of them.
        disturbed: indices of the disturbed ones.
    """

    seconds: list[float] = field(default_factory=list)
    disturbed: list[int] = field(default_factory=list)
    _flagged: int = 0

    def flag(self, disturbed: bool | None) -> None:
        """Apply a verdict to all samples since the last one; None leaves them for the next."""
        if disturbed is None:
            return
        if disturbed:
            self.disturbed += range(self._flagged, len(self.seconds))
        self._flagged = len(self.seconds)


class InterferenceMonitor(Protocol):
    """Judges whether the machine was disturbed since the last time it was asked."""

    def disturbed(self, final: bool = False) -> bool | None:
        """None where too little time has passed to tell, but never where it is ``final``."""


class GpuMonitor:
    """Disturbed while NVML names a throttle reason, or the clock is below the highest seen.

    Args:
        device: the GPU.
        read: function that reads its state.
    """

    def __init__(self, device: torch.device, read: Callable[[torch.device], State] = state) -> None:
        self._device, self._read = device, read
        self._highest = 0.0
        self._last = time.perf_counter()

    def disturbed(self, final: bool = False) -> bool | None:
        """As the protocol; NVML is slow, so it is read at most ten times a second."""
        if not final and time.perf_counter() - self._last < _WINDOW:
            return None
        self._last = time.perf_counter()
        now = self._read(self._device)
        clock = now.clock_mhz or 0.0
        self._highest = max(self._highest, clock)
        return bool(now.throttle) or clock < (1 - _CLOCK_FALL) * self._highest


class CpuMonitor:
    """Disturbed while other processes take a noticeable share of the cores.

    Args:
        now: returns (wall seconds, core seconds busy on the machine, core seconds of this process
            and of its children that have ended).
    """

    def __init__(self, now: Callable[[], _Account] | None = None) -> None:
        self._now = now or _accounts
        self._before = self._last = self._now()

    def disturbed(self, final: bool = False) -> bool | None:
        """As the protocol; a final verdict on too short a span covers the span before it too."""
        now = self._now()
        since = self._last
        if now[0] - since[0] < _WINDOW:
            if not final:
                return None
            since = self._before
        self._before, self._last = self._last, now
        wall, busy, own = (b - a for a, b in zip(since, now, strict=True))
        return busy - own > _OTHERS * wall


def monitor_for(device: torch.device) -> InterferenceMonitor:
    """The monitor for work on ``device``."""
    return GpuMonitor(device) if device.type == "cuda" else CpuMonitor()


def _accounts() -> _Account:
    ended = os.times()
    own = time.process_time() + ended.children_user + ended.children_system
    return time.perf_counter(), _busy(), own


def _busy() -> float:
    """Core seconds that the machine has been busy, 0 without psutil: nothing is disturbed then."""
    try:
        import psutil

        times: Any = psutil.cpu_times()
    except Exception:  # absent, or this system keeps no such account
        return 0.0
    idle = times.idle + getattr(times, "iowait", 0.0)
    counted_twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - counted_twice)

"""How the seconds of some launched work are taken, by device, and what disturbs them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from stylebench.bench.machine.probe import state
from stylebench.bench.records.record import State

Work = Callable[[], object]
_Account = tuple[float, float, float]

_WINDOW = 0.1  # s; shorter spans of processor accounting are rounding
_OTHERS = 0.2  # cores that other processes may take before a sample counts as disturbed
_CLOCK_FALL = 0.05  # of the highest clock seen


class Clock(Protocol):
    """Takes the time of work.

    Attributes:
        name: as ``Timing.clock`` records it.
    """

    name: str

    def seconds(self, work: Work) -> float:
        """Run ``work`` and return what it took the device, to its end."""


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
        device: whose stream.
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
    """Wait until ``device`` has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Watch(Protocol):
    """Tells whether the machine was disturbed since it last told."""

    def disturbed(self, final: bool = False) -> bool | None:
        """None where too little time has passed to tell; never where it is ``final``."""


class GpuWatch:
    """Disturbed while NVML names a throttle reason, or the clock is below the highest seen.

    Args:
        device: the GPU.
        read: what tells its state.
    """

    def __init__(self, device: torch.device, read: Callable[[torch.device], State] = state) -> None:
        self._device, self._read = device, read
        self._highest = 0.0
        self._last = time.perf_counter()

    def disturbed(self, final: bool = False) -> bool | None:
        """As ``Watch.disturbed``; asked at most ten times a second, since NVML is slow."""
        if not final and time.perf_counter() - self._last < _WINDOW:
            return None
        self._last = time.perf_counter()
        now = self._read(self._device)
        clock = now.clock_mhz or 0.0
        self._highest = max(self._highest, clock)
        return bool(now.throttle) or clock < (1 - _CLOCK_FALL) * self._highest


class CpuWatch:
    """Disturbed while other processes take a noticeable share of the cores.

    Args:
        now: returns (wall seconds, core seconds busy on the machine, those of this process and of
            its children that have ended).
    """

    def __init__(self, now: Callable[[], _Account] | None = None) -> None:
        self._now = now or _accounts
        self._before = self._last = self._now()

    def disturbed(self, final: bool = False) -> bool | None:
        """As ``Watch.disturbed``; a final verdict on too short a span is on the one before too."""
        now = self._now()
        since = self._last
        if now[0] - since[0] < _WINDOW:
            if not final:
                return None
            since = self._before
        self._before, self._last = self._last, now
        wall, busy, own = (b - a for a, b in zip(since, now, strict=True))
        return busy - own > _OTHERS * wall


def watch_for(device: torch.device) -> Watch:
    """What disturbs work on ``device``."""
    return GpuWatch(device) if device.type == "cuda" else CpuWatch()


def _accounts() -> _Account:
    ended = os.times()
    own = time.process_time() + ended.children_user + ended.children_system
    return time.perf_counter(), _busy(), own


def _busy() -> float:
    """Core seconds that the machine has been busy, 0 where it does not tell."""
    try:
        import psutil

        times: Any = psutil.cpu_times()
    except Exception:  # no account: nothing is ever disturbed
        return 0.0
    idle = times.idle + getattr(times, "iowait", 0.0)
    counted_twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - counted_twice)

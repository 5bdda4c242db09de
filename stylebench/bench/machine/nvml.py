"""A GPU's state by NVIDIA's management library; None where that is absent or broken."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch

from stylebench.bench.records.record import State

T = TypeVar("T")

#: Reasons for which clocks are held down, by the name of NVML's bit. Idling, and clocks that a
#: user has set, are not among them.
THROTTLES = (
    "SwPowerCap",
    "HwSlowdown",
    "SyncBoost",
    "SwThermalSlowdown",
    "HwThermalSlowdown",
    "HwPowerBrakeSlowdown",
)


def gpu_state(device: torch.device) -> State:
    """Clocks, temperature, power and throttle reasons, each None where NVML does not report it."""

    def clock(kind: str) -> float | None:
        return _read(
            device, lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, getattr(nvml, kind))
        )

    return State(
        clock_mhz=clock("NVML_CLOCK_SM"),
        memory_clock_mhz=clock("NVML_CLOCK_MEM"),
        temperature_c=_read(device, _temperature),
        power_w=_read(device, lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3),
        throttle=_read(device, _throttle) or [],
    )


def power_limit(device: torch.device) -> float | None:
    """The GPU's enforced power limit, W."""
    return _read(device, lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1e3)


def driver_version() -> str | None:
    """The version of NVIDIA's driver."""
    version = _ask(lambda nvml: nvml.nvmlSystemGetDriverVersion())
    return version.decode() if isinstance(version, bytes) else version


def _temperature(nvml: Any, gpu: Any) -> float:
    return nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)


def _throttle(nvml: Any, gpu: Any) -> list[str]:
    # NVML renamed "throttle reasons" to "event reasons"; the bits stayed.
    read = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    bits = (read or nvml.nvmlDeviceGetCurrentClocksThrottleReasons)(gpu)
    return [name for name in THROTTLES if bits & _bit(nvml, name)]


def _bit(nvml: Any, name: str) -> int:
    for prefix in ("nvmlClocksEventReason", "nvmlClocksThrottleReason"):
        bit = getattr(nvml, prefix + name, None)
        if bit is not None:
            return int(bit)
    return 0


def _read(device: torch.device, question: Callable[[Any, Any], T]) -> T | None:
    return _ask(lambda nvml: question(nvml, _handle(device)))


def _ask(question: Callable[[Any], T]) -> T | None:
    try:
        return question(_library())
    except Exception:  # an absent library or an unanswered question is no reason to stop
        return None


@cache
def _library() -> Any:
    """NVML, ready for questions; None where the package or the driver is absent."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return None
    return pynvml


@cache
def _handle(device: torch.device) -> Any:
    # By identity, not by index: CUDA may be shown some of the GPUs, or in another order.
    uuid = torch.cuda.get_device_properties(device).uuid
    return _library().nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")

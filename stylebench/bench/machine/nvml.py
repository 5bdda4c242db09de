"""What NVIDIA's management library tells of a GPU; nothing where it is absent or broken."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch

from stylebench.bench.records.record import State

T = TypeVar("T")

#: Reasons for which clocks are held down, by the name of NVML's bit. That the GPU idles, or runs
#: at clocks that somebody chose, is none.
THROTTLES = (
    "SwPowerCap",
    "HwSlowdown",
    "SyncBoost",
    "SwThermalSlowdown",
    "HwThermalSlowdown",
    "HwPowerBrakeSlowdown",
)


def gpu_state(device: torch.device) -> State:
    """Clocks, temperature, power and throttle reasons, each absent where NVML does not tell."""
    clock, memory, temperature, power = (
        _read(device, lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
        _read(device, lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM)),
        _read(
            device,
            lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
        ),
        _read(device, lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3),
    )
    return State(clock, memory, temperature, power, throttle=_read(device, _throttle) or [])


def power_limit(device: torch.device) -> float | None:
    """Of the GPU, W."""
    return _read(device, lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1e3)


def driver_version() -> str | None:
    """Of NVIDIA's driver."""
    nvml = _library()
    try:
        version = nvml.nvmlSystemGetDriverVersion() if nvml else None
    except Exception:  # as _read
        return None
    return version.decode() if isinstance(version, bytes) else version


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
    nvml = _library()
    if nvml is None:
        return None
    try:
        return question(nvml, _handle(device))
    except Exception:  # a GPU that does not know an answer is no reason to stop
        return None


@cache
def _library() -> Any:
    """NVML, ready for questions, or None."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # the package is absent, or the driver
        return None
    return pynvml


@cache
def _handle(device: torch.device) -> Any:
    # By identity, not by index: CUDA may be shown some of the GPUs, or in another order.
    uuid = torch.cuda.get_device_properties(device).uuid
    return _library().nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")

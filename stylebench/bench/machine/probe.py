"""The machine of a benchmark and its state: whatever can be read, never an error.

A field is None where the machine does not report it, or where the package that would read it (extra
``bench``) is not installed.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

import torch

from stylebench.bench.machine.nvml import gpu_state, power_limit
from stylebench.bench.records.record import Machine, State
from stylekernels.native.support import has_native_code

T = TypeVar("T")

#: Instructions that decide how fast a convolution can be, as py-cpuinfo spells them.
_INSTRUCTIONS = (
    "avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_tile", "amx_bf16",
    "amx_int8", "asimd", "asimdhp", "bf16", "i8mm", "sve", "sve2",
)  # fmt: skip


#: The widest of those is part of a machine's name: clouds call all of a maker's processors alike.
_VECTORS = {
    "amx_bf16": "AMX", "avx512_bf16": "AVX-512 with bf16", "avx512f": "AVX-512", "avx2": "AVX2",
    "sve2": "SVE2", "sve": "SVE",
}  # fmt: skip

INSTALL = "pip install 'stylebench[bench]'"
#: Package of the extra ``bench`` -> facts that a record lacks without it.
_FACTS = {
    "psutil": "memory, load and clock, and which samples other processes disturbed",
    "cpuinfo": "the processor's name and instructions",
    "pynvml": "the GPU's clocks, temperature, power and throttling",
}


def missing_facts(device: torch.device) -> str | None:
    """The facts that a record of ``device`` will lack, in one line; None where it lacks none."""
    needed = [name for name in _FACTS if name != "pynvml" or device.type == "cuda"]
    facts = [_FACTS[name] for name in needed if find_spec(name) is None]
    return f"no record of {'; '.join(facts)}: {INSTALL}" if facts else None


def machine(device: torch.device) -> Machine:
    """The machine of ``device``, with its state now as ``before``."""
    cores = _or_none(lambda: len(os.sched_getaffinity(0))) or os.cpu_count()
    cpu = _cpu_name()
    gpu = _gpu(device) if device.type == "cuda" else {}
    instructions = [name for name in _INSTRUCTIONS if name in _cpu().get("flags", ())]
    name = gpu.get("gpu") or f"{cpu}{_generation()}{_vectors(instructions)}, {cores} cores"
    return Machine(
        name=name,
        slug=slug(name),
        device=device.type,
        cpu=cpu,
        cores=cores,
        memory_bytes=_or_none(lambda: _psutil().virtual_memory().total),
        instructions=instructions,
        before=state(device),
        **gpu,
    )


def finished(before: Machine, device: torch.device) -> Machine:
    """The same machine, with its state now as ``after``."""
    return replace(before, after=state(device))


def state(device: torch.device) -> State:
    """The machine's state now; its GPU's where ``device`` is one."""
    cores = os.cpu_count() or 1
    load = _or_none(lambda: _psutil().getloadavg()[0] / cores)
    if device.type == "cuda":
        return replace(gpu_state(device), load=load)
    clock = _or_none(lambda: _psutil().cpu_freq().current)
    return State(clock_mhz=clock, temperature_c=_or_none(_temperature), load=load)


def slug(name: str) -> str:
    """``AMD EPYC, AVX2, 2 cores`` -> ``amd-epyc-avx2-2-cores``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unknown"


def _generation() -> str:
    """LLVM's name of the processor's design, to follow its name; nothing without llvmlite.

    A record of ``znver4`` is none of ``znver5``, though a cloud calls both by one name.
    """
    if not has_native_code():
        return ""
    from stylekernels.native.compile import host

    return f" {host()[0]}"


def _vectors(instructions: Collection[str]) -> str:
    """The widest vectors, to follow a processor's name; nothing where that is not known."""
    return next((f", {name}" for flag, name in _VECTORS.items() if flag in instructions), "")


def _gpu(device: torch.device) -> dict[str, Any]:
    gpu = _or_none(lambda: torch.cuda.get_device_properties(device))
    if gpu is None:
        return {}
    return {
        "gpu": gpu.name,
        "gpu_memory_bytes": gpu.total_memory,
        "multiprocessors": gpu.multi_processor_count,
        "capability": f"{gpu.major}.{gpu.minor}",
        "l2_bytes": getattr(gpu, "L2_cache_size", None),
        "power_limit_w": power_limit(device),
    }


def _cpu_name() -> str:
    brand = str(_cpu().get("brand_raw") or platform.processor() or platform.machine())
    noise = r"\((R|TM|r|tm)\)|\bCPU\b|\bProcessor\b|\b\d+-Core\b|@.*$"
    return " ".join(re.sub(noise, " ", brand).split())


@cache
def _cpu() -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        import cpuinfo  # takes a second, so only where a record is written

        return dict(cpuinfo.get_cpu_info())

    return _or_none(ask) or {}


def _temperature() -> float | None:
    sensors = _psutil().sensors_temperatures()
    for chip in ("coretemp", "k10temp", "zenpower", "cpu_thermal"):
        if sensors.get(chip):
            return max(float(sensor.current) for sensor in sensors[chip])
    return None


def _psutil() -> Any:
    import psutil

    return psutil


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except Exception:  # an unreadable fact is no reason to stop
        return None

"""The memory there is: of the machine or a GPU, and what of it this process holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

_GIB = 2**30
_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = {  # of a version's folder: the limit, what is used, and the part of that to be had again
    _CGROUPS: ("memory.max", "memory.current", "inactive_file"),
    _CGROUPS / "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


@dataclass(frozen=True)
class Memory:
    """The memory of a device in bytes: what is free now, and what there is in all."""

    free: int
    whole: int


def memory_of(device: torch.device) -> Memory | None:
    """The memory of ``device``; None where it cannot be told."""
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Memory(free + cached, whole)
    if device.type != "cpu":
        return None
    found = [memory for memory in (_main_memory(), *_limits()) if memory]
    if not found:
        return None
    return Memory(min(one.free for one in found), min(one.whole for one in found))


def held(device: torch.device) -> int:
    """Bytes that this process holds of ``device``'s memory, as far as the system tells."""
    if device.type != "cpu":
        return 0
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def readable(count: int) -> str:
    """``count`` bytes in MiB or GiB, as a person reads them."""
    if count < _GIB:
        return f"{count / 2**20:.0f} MiB"
    return f"{count / _GIB:.1f} GiB" if count < 2**60 else f"{count:.2g} bytes"


def _main_memory() -> Memory | None:
    """The machine's, swap included, as Linux tells it; elsewhere all that is installed."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kib = {name: int(rest.split()[0]) for name, _, rest in (s.partition(":") for s in lines)}
        free, whole = kib["MemAvailable"] + kib["SwapFree"], kib["MemTotal"] + kib["SwapTotal"]
        return Memory(1024 * free, 1024 * whole)
    except (OSError, KeyError, ValueError, IndexError):
        pass
    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return Memory(installed, installed) if installed > 0 else None


def _limits() -> Iterator[Memory]:
    """What a container or a job may take, beyond which its processes are killed."""
    for folder, names in _LIMITS.items():
        for place in (folder, *(folder / path for path in _own_cgroups())):
            limit = _limit(place, *names)
            if limit:
                yield limit


def _own_cgroups() -> list[str]:
    """The groups of this process, and those that they are in, below the folder of all."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    paths = [Path(line.split(":", 2)[2].lstrip("/")) for line in lines if line.count(":") > 1]
    return sorted({str(part) for path in paths for part in (path, *path.parents)} - {"."})


def _limit(place: Path, limit: str, used: str, reclaimed: str) -> Memory | None:
    """The limit of one group; None where it has none."""
    try:
        whole = int((place / limit).read_text())
        count = int((place / used).read_text())
        match = re.search(rf"^{reclaimed} (\d+)$", (place / "memory.stat").read_text(), re.M)
    except (OSError, ValueError):  # "max" is no number
        return None
    return Memory(max(0, whole - count + (int(match[1]) if match else 0)), whole)

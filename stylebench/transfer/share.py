"""The share of one process in a run of several: of the picture, and of the memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stylebench.processes.ranks import RankError, Ranks
from stylebench.transfer.device import choose_device
from stylebench.transfer.memory import Memory, memory_of
from stylebench.transfer.settings import Settings

_OF_RANK = {"device", "weights", "init", "distributed"}  # settings that others may spell otherwise


@dataclass(frozen=True)
class Share:
    """The share of a process.

    Attributes:
        processes: of the run.
        memory: that each of them has, of several; None where it cannot be told.
    """

    processes: int = 1
    memory: Memory | None = None

    def of_all(self, ranks: Ranks) -> Share:
        """The least of all ranks, so that all of them plan alike."""
        if ranks.alone:
            return self
        memory = self.memory or Memory(-1, -1)
        numbers = torch.tensor([memory.free, memory.whole], device=ranks.device)
        free, whole = ranks.gather(numbers).amin(0).tolist()
        return Share(ranks.size, Memory(free, whole) if free >= 0 else None)


#: The share of a process alone.
ALL = Share()


def share_of(settings: Settings, ranks: Ranks) -> Share:
    """The share of this process; those of one machine have a part of its memory each.

    Raises:
        ValueError: the device is not to be had, or processes have no way to exchange there.
    """
    if ranks.alone:
        return ALL
    device = choose_device(settings.device)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device {device.type!r} cannot be shared: processes exchange by gloo between CPUs and "
            "by nccl between CUDA GPUs; choose cpu, or drop distributed"
        )
    memory, here = memory_of(device), int(os.environ.get("LOCAL_WORLD_SIZE", ranks.size))
    if memory and device.type == "cpu":
        memory = Memory(memory.free // here, memory.whole)
    return Share(ranks.size, memory)


def check_same(given: Sequence[object], ranks: Ranks) -> None:
    """Refuse processes that were given other pictures, weights or settings than rank 0.

    Args:
        given: whatever has to be the same, such as settings.
        ranks: the processes.

    Raises:
        RankError: naming the first of them.
    """
    if ranks.alone:
        return
    text = repr([_shared(value) for value in given])
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    digests = ranks.gather(torch.tensor([digest], device=ranks.device)).flatten().tolist()
    for rank, other in enumerate(digests):
        if other != digests[0]:
            raise RankError(
                rank, "it has other pictures, weights or settings than rank 0: give all the same"
            )


def _shared(value: object) -> object:
    """``value``; of settings, those that no rank may have otherwise."""
    if not isinstance(value, Settings):
        return value
    return {name: one for name, one in vars(value).items() if name not in _OF_RANK}

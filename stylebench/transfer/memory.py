"""A lower bound of a run's memory, held against what there is before anything is allocated.

The bound counts the image with its gradient, L-BFGS's pairs and the network's largest maps. A run
takes more: what fits is never refused, and what is not refused may yet not fit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path

import torch

from stylebench.image.load import fit
from stylebench.model.out_of_memory import TooLarge
from stylebench.model.precision import PRECISIONS
from stylebench.model.vgg import LAYERS, feature_shapes
from stylebench.transfer.device import (
    choose_device,
    choose_engine,
    choose_history,
    choose_optimizer,
    choose_precision,
)
from stylebench.transfer.settings import Settings

Size = tuple[int, int]  # (height, width) in pixels

_GIB = 2**30
_IMAGES = 4  # in the image's dtype: the start, the image, its gradient and the best one
_BY_AUTOGRAD = ("reference", "eager")  # which keep the output of every ReLU for the backward pass


@dataclass(frozen=True)
class Memory:
    """The memory of a device in bytes: what is free now, and what there is in all."""

    free: int
    whole: int


def check_fits(settings: Settings, content: Size, styles: Sequence[Size]) -> None:
    """Refuse a run that cannot fit, with what it needs, what there is and what would fit.

    Args:
        settings: of the run, with the size it ends with.
        content: of the content image at that size.
        styles: of the style images.

    Raises:
        TooLarge: it cannot.
    """
    device = choose_device(settings.device)
    memory = memory_of(device)
    if memory is None:
        return
    bound = _Bound.of(settings, device)
    there = f"{device} has {_gib(memory.free)} free of {_gib(memory.whole)}"
    if not bound.fits(content, memory):
        raise TooLarge(
            f"{content[1]} x {content[0]} px {bound.told(content)} need at least "
            f"{_gib(bound.needed(content))}, and {there}: lower {bound.advice(content, memory)}"
        )
    for style in styles:
        if (need := bound.style(style)) > memory.free:
            scale = min(settings.style_scale, max(style) / max(content)) * sqrt(memory.free / need)
            raise TooLarge(
                f"a style image of {style[1]} x {style[0]} px needs at least {_gib(need)}, and "
                f"{there}: lower the size, or style_scale to {scale:.2g} or less"
            )


@dataclass(frozen=True)
class _Bound:
    """Bytes that a run takes at least.

    Attributes:
        settings: of the run.
        layers: of the network, as deep as it is built.
        kept_maps: whether all maps are kept for the backward pass; else the largest one counts.
        tiled: whether maps may be cut into tiles; then those between blocks count.
        itemsize: bytes of a value of the maps.
        image_itemsize: of the image.
        optimizer: as it was chosen.
    """

    settings: Settings
    layers: tuple[str, ...]
    kept_maps: bool
    tiled: bool
    itemsize: int
    image_itemsize: int
    optimizer: str

    @classmethod
    def of(cls, settings: Settings, device: torch.device) -> _Bound:
        engine = choose_engine(settings, device)
        precision = PRECISIONS[choose_precision(settings, engine, device)]
        names = list(LAYERS)
        deepest = settings.resolved_preset().deepest_layer
        return cls(
            settings,
            tuple(names[: names.index(deepest) + 1]),
            engine in _BY_AUTOGRAD,
            settings.tile != "none",
            precision.dtype.itemsize,
            precision.wide.itemsize,
            choose_optimizer(settings, engine),
        )

    @property
    def keeps_pairs(self) -> bool:
        return self.optimizer != "adam"

    def fits(self, content: Size, memory: Memory, pairs: int | None = None) -> bool:
        """Whether what is written fits what is free, and what is asked for fits what there is."""
        pairs = self.pairs(content) if pairs is None else pairs
        iterations = sum(self.settings.schedule().values())
        written = self._rest(content) + self._history(content, min(pairs, iterations))
        return written <= memory.free and self._asked_for(content, pairs) <= memory.whole

    def needed(self, content: Size) -> int:
        """The larger of the two."""
        return self._asked_for(content, self.pairs(content))

    def pairs(self, content: Size) -> int:
        return choose_history(self.settings, content[0] * content[1]) if self.keeps_pairs else 0

    def told(self, content: Size) -> str:
        pairs = self.pairs(content)
        return f"with {pairs} pairs of L-BFGS" if pairs else "with Adam"

    def advice(self, content: Size, memory: Memory) -> str:
        """The largest size and history that would fit, each with the other as it is."""
        sides = _largest(lambda side: self.fits(fit(content, side), memory), below=max(content))
        pairs = _largest(lambda count: self.fits(content, memory, count), self.pairs(content))
        advice = []
        if sides >= self.settings.resolved_preset().smallest_side:
            advice.append(f"the size to {sides} px or less")
        if pairs:
            advice.append(f"history to {pairs} or less")
        return ", or ".join(advice) or "the size and history"

    def style(self, size: Size) -> int:
        """The picture, and the largest map of it while its targets are captured."""
        return 3 * size[0] * size[1] * self.image_itemsize + max(self._maps(size))

    def _rest(self, content: Size) -> int:
        maps = self._maps(content)
        kept = sum(maps) if self.kept_maps or self.tiled else 0
        image = 3 * content[0] * content[1] * self.image_itemsize
        return _IMAGES * image + max(kept, max(maps))

    def _maps(self, size: Size) -> list[int]:
        """Bytes of each ReLU's or pooling's output; of the last layer where there is none."""
        kind = "pool" if self.tiled else "relu"
        named = [name for name in self.layers if name.startswith(kind)] or self.layers[-1:]
        shapes = feature_shapes(named, *size).values()
        return [channels * positions * self.itemsize for channels, positions in shapes]

    def _history(self, content: Size, pairs: int) -> int:
        itemsize = 2 if self.settings.history_dtype == "bf16" else self.image_itemsize
        return pairs * 2 * 3 * content[0] * content[1] * itemsize

    def _asked_for(self, content: Size, pairs: int) -> int:
        """Memory that is asked for at once, written or not; torch's own keeps a list alone."""
        if self.optimizer == "torch-lbfgs":
            return self._rest(content) + 8 * pairs
        inner_products = 2 * 8 * pairs**2
        return self._rest(content) + self._history(content, pairs) + inner_products


def memory_of(device: torch.device) -> Memory | None:
    """The memory of ``device``; None where it cannot be told."""
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Memory(free + cached, whole)
    return _main_memory() if device.type == "cpu" else None


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


def _largest(fits: Callable[[int], bool], below: int) -> int:
    """The largest number below ``below`` that fits; 0 where none does."""
    low, high = 0, max(1, below)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _gib(count: int) -> str:
    return f"{ceil(10 * count / _GIB) / 10:.1f} GiB" if count < 2**60 else f"{count:.2g} bytes"

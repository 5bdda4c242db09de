"""The tiles of a run: none where whole feature maps fit in memory, else the highest that do."""

from __future__ import annotations

import torch

from stylebench.model.precision import PRECISIONS, Precision
from stylebench.model.presets import Preset
from stylebench.model.tiles import Tiling, blocks
from stylebench.model.vgg import LAYERS, feature_shapes
from stylebench.transfer.device import (
    choose_engine,
    choose_history,
    choose_optimizer,
    choose_precision,
)
from stylebench.transfer.memory import memory_of
from stylebench.transfer.settings import Settings

_SHARE = 0.85  # of the free memory: the rest is for what is not counted
_IMAGES = 10  # of the content's size, in its dtype: the optimizer's, the run's and the result's
_FIXED = 600_000_000  # bytes: the libraries, the network in two layouts
_LOWEST = 64  # rows of a tile; with fewer the halo costs more than the memory is worth


def choose_tile(settings: Settings, size: tuple[int, int], device: torch.device) -> Tiling | None:
    """The tiles asked for, or for ``auto`` those that fit what is free; None: whole maps.

    Args:
        settings: of the run.
        size: (height, width) of the content in pixels.
        device: that the run is on.
    """
    if settings.tile != "auto":
        return Tiling.of(settings.tile)
    memory = memory_of(device)
    if memory is None:
        return None
    limit = _SHARE * memory.free
    if _needed(settings, size, device, None) <= limit:
        return None
    rows = [_LOWEST << step for step in range(32) if _LOWEST << step < size[0]] or [_LOWEST]
    tilings = [Tiling(height) for height in reversed(rows)]
    fitting = (t for t in tilings if _needed(settings, size, device, t) <= limit)
    return next(fitting, tilings[-1])


def _needed(
    settings: Settings, size: tuple[int, int], device: torch.device, tiling: Tiling | None
) -> float:
    """Bytes that a run takes at its peak, about."""
    engine = choose_engine(settings, device)
    precision = PRECISIONS[choose_precision(settings, engine, device)]
    preset = settings.resolved_preset()
    vector = 3 * size[0] * size[1] * precision.wide.itemsize
    pairs = 0.0
    if choose_optimizer(settings, engine) != "adam":
        share = 0.5 if settings.history_dtype == "bf16" else 1.0
        pairs = 2 * share * (choose_history(settings, size[0] * size[1]) + 1)
    targets = sum(
        channels * positions * precision.wide.itemsize
        for channels, positions in feature_shapes(preset.content_layers, *size).values()
    )
    maps = _maps(preset, engine, precision, size, tiling)
    return _FIXED + (_IMAGES + pairs) * vector + targets + maps


def _maps(
    preset: Preset, engine: str, precision: Precision, size: tuple[int, int], tiling: Tiling | None
) -> float:
    """Bytes of the maps of an iteration at their peak.

    Every block's output is whole, and the largest one's gradient, which is half as large and takes
    its place. A block's other maps are whole too if it is not cut; of the blocks that are, the tile
    of one at a time is in memory.
    """
    height, width = size
    whole, window, largest = 0.0, 0.0, 0.0
    names = list(LAYERS)
    for layers in blocks(names[: names.index(preset.deepest_layer) + 1]):
        channels = LAYERS[layers[0]][1]
        position = channels * precision.dtype.itemsize
        pools = layers[-1].startswith("pool")
        kept = sum(name.startswith("relu") for name in layers)
        if engine == "fused":
            kept -= pools and layers[-2] not in preset.taps
        else:
            kept *= 2  # what convolutions return is kept beside the activations for a while
        if pools:
            whole += (height // 2) * (width // 2) * (position + channels)
            largest = max(largest, 0.5 * (height // 2) * (width // 2) * position)
        inner = (kept + 1) * position
        tiles = (tiling or Tiling(height)).tiles(layers, height, width)
        if len(tiles) == 1:
            whole += inner * height * width
        else:
            rows, columns = tiles[0].rows, tiles[0].columns
            area = (rows.last - rows.first) * (columns.last - columns.first)
            window = max(window, inner * area)
        height, width = height // 2, width // 2
    return whole + window + largest

"""Engines kept from one run to the next, so that what has not changed is not built again.

An engine holds the network as it converted it, the styles' Gram matrices, the memory of its maps
and, if it has any, compiled code. A run takes it out of the cache and puts it back at its end: no
two runs ever have the same one. Another content image of the same size is captured anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from stylebench.engines import Engine
from stylebench.model.original import original_file
from stylebench.model.regions import Region
from stylebench.model.vgg import Preprocessing, Weights
from stylebench.model.weights import caffe_file, imagenet_file
from stylebench.transfer.footprint import Choices
from stylebench.transfer.hashing import hash_of

MOST, MOST_BYTES = 8, 2**30  # engines, and bytes of all of them, that are kept


@dataclass(frozen=True)
class BoundEngine:
    """An engine, and what is known of the weights that it was built of.

    Attributes:
        engine: bound to the targets.
        preprocessing: the weights'.
        identity: their name and hash.
        nbytes: that the engine holds, estimated.
    """

    engine: Engine
    preprocessing: Preprocessing
    identity: Mapping[str, str | None]
    nbytes: int


class EngineCache:
    """The least recently used engines go first.

    Args:
        most: engines that are kept.
        most_bytes: likewise.
    """

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[Hashable, BoundEngine] = OrderedDict()
        self._lock = Lock()

    def take(self, key: Hashable) -> BoundEngine | None:
        """The engine kept for ``key``, which is the caller's alone from now on.

        Args:
            key: of ``engine_key``; there is none for None.
        """
        with self._lock:
            return self._kept.pop(key, None)

    def put(self, key: Hashable, bound: BoundEngine) -> None:
        """Keep an engine that is in use no longer, if it has a key and is not too large."""
        if key is None:
            return
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = bound
            while len(self._kept) > self._most or self._nbytes > self._most_bytes:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget all engines."""
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def _nbytes(self) -> int:
        return sum(bound.nbytes for bound in self._kept.values())


#: The engines of this process.
ENGINE_CACHE = EngineCache()


def clear_cache() -> None:
    """Free the engines that ``stylize`` keeps for calls with the same style, size and settings.

    They are eight at most, and a GiB of memory in all.
    """
    ENGINE_CACHE.clear()


def engine_key(
    choices: Choices,
    weights: str | Path | Weights,
    content: Tensor,
    styles: Sequence[Tensor],
    style_weights: Sequence[float],
    regions: Sequence[Region] = (),
) -> Hashable | None:
    """All that an engine is determined by, but the content image where it is captured anew.

    Args:
        choices: of the phase.
        weights: as for ``load_weights``.
        content: [3, H, W], as it is resized.
        styles: [3, H', W'], likewise.
        style_weights: one a style.
        regions: at the sizes of the pictures.

    Returns:
        None where the weights cannot be told from others.
    """
    source = _source(weights)
    if source is None:
        return None
    preset = choices.preset
    # Channels are scaled by what the network makes of the content: exponents of fp16, or means.
    scaled = choices.precision.rescaled or preset.normalize
    return (
        source, choices.engine, choices.precision.name, str(choices.device), choices.tiling,
        torch.get_num_threads(), preset.pooling, preset.normalize, preset.normalize_floor,
        preset.deepest_layer, repr(preset.objective(*content.shape[-2:])), tuple(content.shape),
        hash_of({"content": content}) if scaled else "",
        tuple(hash_of({"style": style}) for style in styles), tuple(style_weights),
        tuple(map(_of_region, regions)),
    )  # fmt: skip


def _of_region(region: Region) -> Hashable:
    named = [("content", region.content), *((str(i), m) for i, m in enumerate(region.styles))]
    present = {name: mask for name, mask in named if mask is not None}
    return hash_of(present), tuple(region.style_weights)


def _source(weights: str | Path | Weights) -> Hashable | None:
    """The weights by name, or by their file as it is now."""
    if isinstance(weights, Weights):
        return None  # whose tensors anyone may change
    if isinstance(weights, str) and weights.partition(":")[0] == "random":
        return weights
    files = {"auto": caffe_file() or original_file(), "original": original_file()}
    files |= {"gatys": caffe_file(), "imagenet": imagenet_file()}
    path = files[weights] if isinstance(weights, str) and weights in files else Path(weights)
    try:
        status = path.stat() if path else None
    except OSError:
        return None
    return status and (str(path), status.st_ino, status.st_size, status.st_mtime_ns)

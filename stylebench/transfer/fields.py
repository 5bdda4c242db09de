"""The fields of settings, each with its check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from stylebench.engines import ENGINES
from stylebench.files.paths import exists, expand
from stylebench.image.load import ImageSource, Picture
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import PRESETS
from stylebench.model.tiles import BANDS
from stylebench.model.vgg import Pooling, Weights, check_layer
from stylebench.model.weights import SOURCES
from stylebench.transfer.color import COLORS
from stylebench.transfer.init import CHOICES, checked_name, is_named
from stylebench.transfer.masks import NONE, WHOLE, style_of
from stylebench.transfer.values import (
    check_distinct,
    choice,
    flag,
    listed,
    number,
    positive,
    shown,
    weight,
    whole,
    wrong,
)

OPTIMIZERS = ("auto", "lbfgs", "torch-lbfgs", "adam")
HISTORY_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CONTENT_SIZE = "content"
_SCALES = (
    "'auto', 'none', sizes as [64, 128] or size -> iterations as {64: 300, 128: 100}; on the "
    "command line 64,128 or 64=300,128=100"
)
_TILE = (
    "'auto', 'none', the side of square tiles in px, or 'rows:PX' for tiles of so many rows over "
    "the whole width"
)
_SMALLEST = 2.0**-126  # fp32 holds no smaller number whole

Layers = str | Iterable[str] | Mapping[str, float]
Scales = str | Sequence[int] | Mapping[int, int]


def _size(name: str, value: Any) -> int | str:
    if not isinstance(value, str):
        return whole(name, value)
    if value != CONTENT_SIZE:
        raise wrong(name, value, f"a whole number of px, or {CONTENT_SIZE!r}")
    return CONTENT_SIZE


def _layers(name: str, value: Any) -> dict[str, float]:
    """Layer -> weight, of any of the forms of ``Layers``."""
    if isinstance(value, Mapping):
        names, weights = list(value), list(value.values())
    else:
        names = [value] if isinstance(value, str) else listed(name, value, "names of layers")
        weights = [1.0] * len(names)
    for layer in names:
        if not isinstance(layer, str):
            raise wrong(f"a layer of {name}", layer, "a name as relu4_2")
        check_layer(layer, name)
    check_distinct(name, names)
    return {
        str(layer): weight(f"the weight of {layer} in {name}", share)
        for layer, share in zip(names, weights, strict=True)
    }


def _style_weights(name: str, value: Any) -> list[float]:
    weights = listed(name, value, "one number a style image")
    weights = [weight(f"an entry of {name}", share) for share in weights]
    total = sum(weights)
    if not 0 < total < float("inf"):
        raise ValueError(
            f"{name} are {shown(weights)}: expected numbers >= 0 with a finite sum, not all of "
            "them 0"
        )
    if any(share > 0 and share / total < _SMALLEST for share in weights):
        raise ValueError(
            f"{name} are {shown(weights)}: the smallest would count as 0; expected 0, or numbers "
            "nearer to each other"
        )
    return weights


def _learning_rate(name: str, value: Any) -> float:
    rate = positive(name, value)
    if rate < _SMALLEST:
        raise wrong(name, value, f"{_SMALLEST:.2g} or more: a smaller one is 0 in fp32")
    return rate


def _scales(name: str, value: Any) -> Scales:
    """``auto``, ``none``, sizes, or size -> iterations."""
    if isinstance(value, str):
        if value not in ("auto", "none"):
            raise wrong(name, value, _SCALES)
        return str(value)
    if isinstance(value, Mapping):
        return {
            whole(f"an entry of {name}", size): whole(
                f"the number of iterations at {size} in {name}", count
            )
            for size, count in value.items()
        }
    sizes = listed(name, value, _SCALES)
    sizes = [whole(f"an entry of {name}", size) for size in sizes]
    check_distinct(name, sizes)
    return sizes


def _tile(name: str, value: Any) -> int | str:
    """``auto``, ``none``, a side in px, or ``rows:PX``."""
    if not isinstance(value, str):
        return whole(name, value)
    rows = value.removeprefix(BANDS)
    if value in ("auto", "none") or (rows != value and rows.isdecimal() and 0 < int(rows) < 2**31):
        return str(value)
    raise wrong(name, value, _TILE)


def _source(name: str, value: Any) -> ImageSource:
    """``init``: a name, a file that is there, or a picture as it is."""
    if isinstance(value, Image.Image | np.ndarray | torch.Tensor | Picture):
        return value
    if not isinstance(value, str | Path):
        raise wrong(name, value, f"{CHOICES}, an image file, PIL image, array or tensor")
    if isinstance(value, str) and is_named(value):
        return checked_name(value)
    if _exists(value):
        return value
    raise ValueError(f"unknown {name} {shown(str(value))}: expected {CHOICES} or an image file")


def _masks(name: str, value: Any) -> list[tuple[ImageSource, ImageSource | None]]:
    """Pairs of a mask of the content, and one of a style image, ``whole``, ``none`` or None."""
    expected = "pairs of a content's mask and a style's, as [('sky.png', 'paint.png')]"
    pairs = [
        listed(f"an entry of {name}", pair, expected) for pair in listed(name, value, expected)
    ]
    for index, pair in enumerate(pairs, start=1):
        if len(pair) != 2:
            raise wrong(f"mask {index}", pair, "two: one of the content, and one of a style")
        for mask in pair if style_of(pair[1]) is None else pair[:1]:
            _check_mask(f"mask {index}", mask)
    return [(of_content, of_style) for of_content, of_style in pairs]


def _check_mask(name: str, value: Any) -> None:
    if isinstance(value, Image.Image | np.ndarray | torch.Tensor):
        return
    if not isinstance(value, str | Path):
        raise wrong(name, value, "an image file, PIL image, array or tensor")
    if not _exists(value):
        raise ValueError(
            f"{name}: there is no file {shown(str(value))}: expected a gray picture, or in the "
            f"place of a style's mask {NONE} or {WHOLE}"
        )


def mask_names(masks: Any) -> list[list[str]] | None:
    """The files of ``Settings.masks``, or their kinds, for records."""
    if not masks:
        return None
    return [[source_name(one), style_of(two) or source_name(two)] for one, two in masks]


def _exists(path: str | Path) -> bool:
    try:
        return bool(str(path)) and exists(expand(path))
    except ValueError:  # a null byte, or a user that this machine does not have
        return False


def source_name(source: Any) -> str:
    """A picture's file, or its kind, for messages and records."""
    if isinstance(source, Path) and is_named(str(source)):
        return f"./{source}"
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Picture):
        return source.name
    kinds = {Image.Image: "PIL image", torch.Tensor: "tensor"}
    return next((name for kind, name in kinds.items() if isinstance(source, kind)), "array")


def _weights(name: str, value: Any) -> str | Path | Weights:
    if not isinstance(value, str | Path | Weights):
        raise wrong(name, value, f"{', '.join(SOURCES)}, random:SEED or a file")
    return value


def _device(name: str, value: Any) -> str | torch.device:
    if not isinstance(value, str | torch.device):
        raise wrong(name, value, "cpu, cuda, cuda:N or mps")
    return value


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    return lambda name, value: choice(name, value, choices)


#: Field -> its check, which returns the value in Python's own types. None, where it means "as the
#: preset says", is not checked.
CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "preset": _one_of(*PRESETS),
    "size": _size,
    "iterations": whole,
    "style_weights": _style_weights,
    "style_scale": positive,
    "color": _one_of(*COLORS),
    "content_layers": _layers,
    "style_layers": _layers,
    "content_weight": weight,
    "style_weight": weight,
    "tv_weight": weight,
    "pooling": _one_of(*get_args(Pooling)),
    "normalize": flag,
    "seamless": flag,
    "weights": _weights,
    "engine": _one_of("auto", *ENGINES),
    "precision": _one_of("auto", *PRECISIONS),
    "polish": lambda name, value: whole(name, value, least=0),
    "scales": _scales,
    "optimizer": _one_of(*OPTIMIZERS),
    "history": whole,
    "history_dtype": _one_of(*HISTORY_DTYPES),
    "learning_rate": _learning_rate,
    "tolerance_grad": number,
    "tolerance_change": number,
    "init": _source,
    "masks": _masks,
    "seed": lambda name, value: whole(name, value, least=0),
    "tile": _tile,
    "device": _device,
}

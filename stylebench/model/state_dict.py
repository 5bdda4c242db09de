"""State dicts: files of named tensors, and the pair of them that a convolution takes."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylebench.model.out_of_memory import out_of_memory
from stylebench.model.vgg import LAYERS, is_dense

LARGEST_FILE = 2**31  # bytes; all of VGG-19 in fp64 has 1.15 GB
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class WeightsError(ValueError):
    """Weights that cannot be found, downloaded or used; the message says what to do."""


def read_state_dict(path: Path) -> Mapping[str, Any]:
    """The file's entries that have names, whatever they hold.

    Raises:
        WeightsError: it cannot be read, or is no mapping.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        _check_unpacked(path)
        with warnings.catch_warnings(action="ignore"):  # of kinds of tensors that are refused
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers raise exceptions of many types for a damaged file
        writer = "safetensors" if path.suffix == ".safetensors" else "torch.save"
        raise WeightsError(
            f"{path}: cannot be read as weights ({_reason(error, writer)})"
        ) from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path}: holds {type(state).__name__}, expected a state dict")
    return {key: value for key, value in state.items() if isinstance(key, str)}


def _check_unpacked(path: Path) -> None:
    """Refuse a zip file, as torch writes it, that holds far more than it has bytes."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > LARGEST_FILE:
        raise WeightsError(f"it would unpack to {unpacked / 2**20:.0f} MiB")


def _reason(error: Exception, writer: str) -> str:
    """One line of our own; torch's would advise to load a file that could run what it likes."""
    text = str(error)
    if isinstance(error, WeightsError | OSError) or out_of_memory(error):
        return text.splitlines()[0] if text else type(error).__name__
    if "TorchScript" in text:
        return "it is a TorchScript archive; save the state_dict() of its module"
    if "weights_only" in text:
        return (
            "it holds more than plain tensors, or is no file that torch.save wrote, or damaged; "
            "save a state_dict()"
        )
    return f"it is no file that {writer} wrote, or it is damaged"


def dense_pair(name: str, layer: str, pair: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Weight [out, in, 3, 3] and bias [out] of a layer, if they are dense floats of its shapes.

    Args:
        name: of the weights, for messages.
        layer: a convolution of VGG-19.
        pair: what is said to be its weight and bias.

    Raises:
        WeightsError: anything else, by its kind, dtype or shapes.
    """
    inputs, outputs = LAYERS[layer]
    expected = (outputs, inputs, 3, 3), (outputs,)
    for tensor in pair:
        if not is_dense(tensor):
            raise WeightsError(
                f"{name}: {layer} holds {_kind(tensor)}, expected dense tensors with values"
            )
        if tensor.dtype not in _FLOATS:
            raise WeightsError(f"{name}: {layer} is of {tensor.dtype}, expected floats")
    shapes = tuple(tuple(tensor.shape) for tensor in pair)
    if shapes != expected:
        raise WeightsError(f"{name}: {layer} has shapes {shapes}, VGG-19 needs {expected}")
    weight, bias = pair
    return weight, bias


def _kind(value: object) -> str:
    """The kind of a value that is no dense tensor, for a message."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    kinds = {"nested": value.is_nested, "meta": value.is_meta, "quantized": value.is_quantized}
    named = next((kind for kind, holds in kinds.items() if holds), str(value.layout))
    return f"a tensor that is {named.removeprefix('torch.')}"

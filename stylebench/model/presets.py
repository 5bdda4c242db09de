"""Presets: each published variant of Gatys' algorithm as one row of numbers.

``Preset.objective`` turns a row into the coefficients of ``Objective`` for an image's size. Each
row names its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import log
from typing import Literal, get_args

from stylebench.model.objective import LayerWeights, Objective, TotalVariation
from stylebench.model.vgg import Pooling, check_layer, deepest, feature_shapes, smallest_side

StyleFit = Literal["content", "longest"]


def _check_weight(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} is {value}: expected a finite number >= 0")


@dataclass(frozen=True)
class Preset:
    """One published variant of the algorithm, as numbers.

    With N channels and M positions at layer l, the coefficients of ``Objective`` are::

        c_l = content_weight * w_l * content_factor / (N M)^content_exponent
        k_l = style_weight * w_l * style_factor / N^style_exponent [/ number of style layers]

    Attributes:
        source: the publication or project the numbers come from.
        content_layers: layer -> w_l.
        style_layers: layer -> w_l.
        average_style_layers: whether style weights are divided by the number of style layers.
        tv_weight: factor of the total variation, taken on the preprocessed image.
        tv_kind: ``l1`` = sum of |dx| + |dy|, ``l2`` = sum of dx^2 + dy^2.
        style_fit: size of the style images before ``style_scale``: ``content`` resizes them to
            the content's height and width, ``longest`` keeps their aspect at the same longest side.
        normalize: whether the network is rescaled so that every filter's mean activation is 1.
        normalize_floor: of a layer's mean activation, the part that a filter's is taken for at
            least where the network is rescaled.
        seamless: whether the image wraps around; see ``Objective``.
        init: the image to start from: ``content``, ``noise`` or ``style``.
        size: longest side in pixels.
        iterations: function evaluations.

    Raises:
        ValueError: an unknown layer or choice, a weight that is negative or not finite, or nothing
            to optimize; the message names the value.
    """

    source: str
    content_weight: float
    style_weight: float
    content_layers: LayerWeights = field(default_factory=lambda: {"relu4_2": 1.0})
    style_layers: LayerWeights = field(
        default_factory=lambda: dict.fromkeys(
            ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), 1.0
        )
    )
    content_factor: float = 1.0
    content_exponent: int = 1
    style_factor: float = 1.0
    style_exponent: int = 4
    average_style_layers: bool = False
    tv_weight: float = 0.0
    tv_kind: TotalVariation = "l1"
    pooling: Pooling = "max"
    style_fit: StyleFit = "longest"
    normalize: bool = False
    normalize_floor: float = 0.0
    seamless: bool = False
    init: str = "content"
    size: int = 512
    iterations: int = 500

    def __post_init__(self) -> None:
        for kind in ("content", "style"):
            layers: LayerWeights = getattr(self, f"{kind}_layers")
            for name, weight in layers.items():
                check_layer(name, f"{kind}_layers")
                _check_weight(f"the {kind} weight of {name}", weight)
            _check_weight(f"{kind}_weight", getattr(self, f"{kind}_weight"))
        _check_weight("tv_weight", self.tv_weight)
        if self.tv_kind not in get_args(TotalVariation):
            raise ValueError(f"unknown tv_kind {self.tv_kind!r}: expected 'l1' or 'l2'")
        if self.pooling not in get_args(Pooling):
            raise ValueError(f"unknown pooling {self.pooling!r}: expected 'average' or 'max'")
        if self.style_fit not in get_args(StyleFit):
            raise ValueError(
                f"unknown style_fit {self.style_fit!r}: expected 'content' or 'longest'"
            )
        if not self.content_layers and not self.style_layers and not self.tv_weight:
            raise ValueError(
                "content_layers and style_layers are empty and tv_weight is 0: there is nothing to "
                "optimize; expected one of them"
            )

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers that losses are taken at, content first."""
        return tuple(dict.fromkeys((*self.content_layers, *self.style_layers)))

    @property
    def deepest_layer(self) -> str:
        """The layer the network has to be built to."""
        return deepest(self.taps or ("conv1_1",))

    @property
    def smallest_side(self) -> int:
        """The shortest image side, in pixels, that leaves one position at the deepest layer."""
        return smallest_side(self.deepest_layer)

    def objective(self, height: int, width: int) -> Objective:
        """The coefficients for an image of ``height`` x ``width`` px."""
        shapes = feature_shapes(self.taps, height, width)
        content = {}
        for layer, weight in self.content_layers.items():
            channels, positions = shapes[layer]
            scale = self.content_factor / (channels * positions) ** self.content_exponent
            content[layer] = self.content_weight * weight * scale
        style = {}
        share = 1 / max(1, len(self.style_layers)) if self.average_style_layers else 1.0
        for layer, weight in self.style_layers.items():
            scale = self.style_factor * share / shapes[layer][0] ** self.style_exponent
            style[layer] = self.style_weight * weight * scale
        return Objective(content, style, self.tv_weight, self.tv_kind, self.seamless)

    def weight_behind(self, term: str) -> str:
        """Name and value of the weight that a loss term is far too large, or too small, by.

        Of the weight of a kind and that of a layer it is the one further from 1.

        Args:
            term: ``tv``, or a kind and a layer, as ``style relu1_1``.
        """
        kind, _, layer = term.partition(" ")
        weight = getattr(self, f"{kind}_weight")
        share = getattr(self, f"{kind}_layers")[layer] if layer else 1.0
        if abs(log(share or 1)) > abs(log(weight or 1)):
            return f"the weight of {layer} in {kind}_layers is {share:g}"
        return f"{kind}_weight is {weight:g}"


_PRE_RELU_TUTORIAL = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
_NEURAL_STYLE = Preset(
    source="jcjohnson/neural-style",
    content_weight=5.0,
    style_weight=1e2,
    # Its tv layer adds the gradient of (1e-3 / 2) sum(dx^2 + dy^2); here it is in the loss too.
    tv_weight=5e-4,
    tv_kind="l2",
    init="noise",
    iterations=1000,
)

# gordicaleksa names its content layer conv4_2, but the in-place ReLU after it makes it relu4_2.
PRESETS: Mapping[str, Preset] = {
    "paper": Preset(
        source="arXiv 1508.06576, alpha / beta = 1e-3",
        content_weight=1.0,
        style_weight=1e3,
        content_factor=1 / 2,
        content_exponent=0,
        style_factor=1 / 4,
        style_exponent=2,
        average_style_layers=True,
        pooling="average",
        style_fit="content",
        normalize=True,
        init="noise",
    ),
    "gatys-pytorch": Preset(
        source="the author's PyTorch notebook",
        content_weight=1.0,
        style_weight=1e3,
    ),
    "neural-style": _NEURAL_STYLE,
    "neural-style-pt": replace(
        _NEURAL_STYLE, source="ProGamerGov/neural-style-pt", tv_weight=1e-3, tv_kind="l1"
    ),
    "pytorch-tutorial": Preset(
        source="PyTorch's tutorial",
        content_weight=1.0,
        style_weight=1e6,
        content_layers={"conv2_2": 1.0},
        style_layers=dict.fromkeys(_PRE_RELU_TUTORIAL, 1.0),
        iterations=300,
    ),
    "gordicaleksa": Preset(
        source="gordicaleksa/pytorch-neural-style-transfer",
        content_weight=1e5,
        style_weight=3e4,
        style_exponent=2,
        average_style_layers=True,
        tv_weight=1.0,
        size=400,
        iterations=1000,
    ),
    "deep-textures": Preset(
        source="arXiv 1505.07376, leongatys/DeepTextures",
        content_weight=1.0,
        style_weight=1e9,
        content_layers={},
        style_layers=dict.fromkeys(("relu1_1", "pool1", "pool2", "pool3", "pool4"), 1.0),
        style_factor=1 / 4,
        style_exponent=2,
        pooling="average",
        normalize=True,
        normalize_floor=0.03,
        init="noise",
        size=256,
        iterations=2000,
    ),
    "pystiche": Preset(
        source="pystiche's example",
        content_weight=1.0,
        style_weight=1e3,
        style_exponent=2,
        average_style_layers=True,
        size=500,
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: there is none; the message names the choices.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise ValueError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}") from None

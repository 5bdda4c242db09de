"""Small problems for engines: random images, engines bound to them, and errors of their results."""

from dataclasses import replace

import pytest
import torch

from stylebench.engines import LossTerms
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import PRESETS
from stylebench.model.vgg import VGG19, smallest_side

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STYLE_WEIGHTS = [0.25, 0.75]


def shallow(preset):
    """``preset`` with its losses at relu3_1 and before, if they were at the paper's layers.

    The network is 23 times smaller; kinds of layers, coefficients, pooling and tv are the same.
    """
    if preset.deepest_layer == "pool4":
        return replace(preset, style_layers=dict.fromkeys(("relu1_1", "pool1", "pool2"), 1.0))
    if preset.deepest_layer != "relu5_1":
        return preset
    style = dict.fromkeys(("relu1_1", "relu2_1", "relu3_1"), 1.0)
    return replace(preset, content_layers={"relu2_2": 1.0}, style_layers=style)


#: Presets by name with shallow networks, and, marked slow, as they are.
PRESET_CASES = [
    *(pytest.param(shallow(preset), id=name) for name, preset in PRESETS.items()),
    *(
        pytest.param(preset, id=f"{name} whole", marks=pytest.mark.slow)
        for name, preset in PRESETS.items()
        if preset.deepest_layer in ("relu5_1", "pool4")
    ),
]

SHALLOW = shallow(PRESETS["gatys-pytorch"])
#: One of each kind of layer, for Inductor, which takes seconds over every kernel.
SHALLOWEST = replace(
    SHALLOW, content_layers={"relu1_2": 1.0}, style_layers={"relu1_1": 1.0, "relu2_1": 1.0}
)

#: Places where losses may be taken.
TAPS = {
    "pre and post": {
        "content_layers": {"conv3_1": 0.5, "relu3_1": 0.5},
        "style_layers": {"conv1_1": 1.0, "relu1_1": 1.0, "relu1_2": 0.3, "conv2_2": 0.7},
    },
    "poolings": {
        "content_layers": {"pool2": 1.0},
        "style_layers": {"pool1": 1.0, "pool2": 0.5, "relu2_2": 1.0},
    },
    "content and style at one layer": {
        "content_layers": {"relu2_1": 1.0, "conv1_2": 1.0},
        "style_layers": {"relu2_1": 1.0, "conv1_2": 1.0},
    },
    "content alone": {"style_layers": {}},
    "style alone": {"content_layers": {}, "style_layers": {"relu3_1": 1.0}},
    "variation alone": {"content_layers": {}, "style_layers": {}, "tv_weight": 1.0},
    "variation squared": {"tv_weight": 1.0, "tv_kind": "l2"},
}
TAP_CASES = [
    *(pytest.param(replace(SHALLOW, **change), id=name) for name, change in TAPS.items()),
    pytest.param(
        replace(PRESETS["gatys-pytorch"], style_layers={"relu5_4": 1.0, "pool5": 1.0}),
        id="to the bottom",
        marks=pytest.mark.slow,
    ),
]


def random_images(weights, height=24, width=24):
    """Content, two styles (one of another size) and an image, preprocessed, fp64 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(height, width), (height, width), (max(16, height - 16), width + 9), (height, width)]
    return [
        weights.preprocessing.apply(
            torch.rand(1, 3, *size, dtype=torch.float64, generator=generator)
        )
        for size in sizes
    ]


def images_for(weights, preset):
    """``random_images`` of 24 px, or of 64 px for networks beyond relu3_1."""
    side = 24 if smallest_side(preset.deepest_layer) <= 4 else 64
    return random_images(weights, side, side)


def in_fp64(weights):
    """The same weights in fp64."""
    layers = {name: (w.double(), b.double()) for name, (w, b) in weights.layers.items()}
    return replace(weights, layers=layers)


def build(engine, weights, preset, precision, images, regions=()):
    """An engine bound to ``images``, and the last of them on its device in its dtype.

    Args:
        engine: its class.
        weights: in fp32, or in fp64 for that precision.
        preset: of the losses.
        precision: a name in ``PRECISIONS``, or a ``Precision``.
        images: content, styles and image, as of ``random_images``.
        regions: of them.
    """
    precision = PRECISIONS.get(precision, precision)
    network = VGG19(weights, preset.deepest_layer, preset.pooling).to(DEVICE, precision.wide)
    content, *styles, image = (x.to(DEVICE, precision.wide) for x in images)
    objective = preset.objective(*content.shape[2:])
    more = {"regions": [region.to(content) for region in regions]} if regions else {}
    return engine(network, objective, content, styles, STYLE_WEIGHTS, precision, **more), image


def evaluate(engine, weights, preset, precision, images, regions=()):
    """Loss terms and gradient of a new engine, in fp64 on the CPU."""
    bound, image = build(engine, weights, preset, precision, images, regions)
    return result_at(bound, image)


def result_at(bound, image):
    """Loss terms and gradient of an engine at ``image``, in fp64 on the CPU."""
    terms, gradient = bound.loss_and_grad(image)
    return LossTerms(terms.names, terms.values.cpu().double()), gradient.cpu().double()


def term_error(terms, exact):
    """The largest error of a loss term, relative to that term."""
    return ((terms.values - exact.values) / exact.values).abs().max().item()


def loss_error(terms, exact):
    """The largest error of a loss term, relative to the loss."""
    return ((terms.values - exact.values).abs().max() / exact.total).item()


def relative_error(x, exact):
    """The norm of the error, relative to the norm of ``exact``."""
    return ((x - exact).norm() / exact.norm()).item()

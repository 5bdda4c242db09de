"""Engines built on small random images, what they find there, and places where taps may be."""

import torch

from stylebench.engines import LossTerms
from stylebench.model.precision import PRECISIONS
from stylebench.model.vgg import VGG19

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

ANYWHERE = {
    "pre and post": {
        "content_layers": {"conv3_2": 0.5, "relu3_2": 0.5},
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
    "to the bottom": {"style_layers": {"relu5_4": 1.0, "pool5": 1.0}},
}


def images(weights, height=64, width=64, seed=0):
    """Content, two styles (one of another size) and an image, preprocessed, fp64."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(height, width), (height, width), (height - 16, width + 9), (height, width)]
    return [
        weights.preprocessing.apply(
            torch.rand(1, 3, *size, dtype=torch.float64, generator=generator)
        )
        for size in sizes
    ]


def build(engine, weights, preset, pooling, precision, given, size=(64, 64)):
    precision = PRECISIONS[precision]
    network = VGG19(weights, preset.deepest_layer, pooling).to(DEVICE, precision.wide)
    content, *styles, image = (each.to(DEVICE, precision.wide) for each in given)
    objective = preset.objective(*size)
    return engine(network, objective, content, styles, [0.25, 0.75], precision), image


def evaluate(engine, weights, preset, pooling, precision, given, size=(64, 64)):
    """Loss terms and gradient of a new engine, on the CPU, the gradient in fp64."""
    bound, image = build(engine, weights, preset, pooling, precision, given, size)
    terms, gradient = bound.loss_and_grad(image)
    return LossTerms(terms.names, terms.values.cpu()), gradient.cpu().double()


def worst(terms, exact):
    """The largest relative error of a loss term."""
    oracle = exact.values.double()
    return ((terms.values.double() - oracle) / oracle).abs().max().item()


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()

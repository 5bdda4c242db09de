"""Engines on small images with weights of one's own, and the precisions that rescaling is about."""

from dataclasses import replace

import torch

from stylebench.model.precision import PRECISIONS
from stylebench.model.vgg import VGG19

FP16, FP32 = PRECISIONS["fp16"], PRECISIONS["fp32"]
NOT_RESCALED = replace(FP16, rescaled=False)
RESCALED = replace(FP32, rescaled=True)
SIDE = 48


def images(weights):
    """Content, two styles and an image, preprocessed [1, 3, 48, 48], fp64."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(4, 1, 3, SIDE, SIDE, dtype=torch.float64, generator=generator)
    return [weights.preprocessing.apply(rgb) for rgb in drawn]


def build(engine, weights, preset, precision):
    content, *styles, image = (each.to(precision.wide) for each in images(weights))
    network = VGG19(weights, preset.deepest_layer, preset.pooling)
    objective = preset.objective(SIDE, SIDE)
    return engine(network, objective, content, styles, [0.25, 0.75], precision), image


def evaluate(engine, weights, preset, precision):
    bound, image = build(engine, weights, preset, precision)
    terms, gradient = bound.loss_and_grad(image)
    return terms.values.double(), gradient.double()

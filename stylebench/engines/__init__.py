"""Engines: things that turn an image into its loss terms and their gradient.

Every engine is bound to a network, an objective and targets, and does one thing,
``loss_and_grad(image)``. ``reference`` is the one that the others are measured against.
"""

from stylebench.engines.compiled import Compiled, Plain
from stylebench.engines.contract import Engine, LossTerms, Targets
from stylebench.engines.fused import Fused
from stylebench.engines.reference import Reference

#: Engine name -> class.
ENGINES: dict[str, type[Reference | Plain | Fused]] = {
    "reference": Reference,
    "plain": Plain,
    "compiled": Compiled,
    "fused": Fused,
}

__all__ = [
    "ENGINES",
    "Compiled",
    "Engine",
    "Fused",
    "LossTerms",
    "Plain",
    "Reference",
    "Targets",
]

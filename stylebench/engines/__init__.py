"""Engines: things that turn an image into its loss terms and their gradient.

Every engine is bound to a network, an objective and targets, and does one thing,
``loss_and_grad(image)``. ``reference`` is the one that the others are measured against.
"""

from stylebench.engines.contract import Engine, LossTerms, Targets
from stylebench.engines.reference import Reference

#: Engine name -> class, in the order that ``auto`` prefers them.
ENGINES: dict[str, type[Reference]] = {"reference": Reference}

__all__ = ["ENGINES", "Engine", "LossTerms", "Reference", "Targets"]

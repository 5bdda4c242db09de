"""The suites, one module each, loaded when first used: the names alone need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stylebench.bench.suites.base import Suite

#: Name -> description in a line.
SUITES: Mapping[str, str] = {
    "smoke": "One tiny iteration of each engine, in seconds: whether benchmarks run here at all.",
    "parity": "Every engine, precision and preset against the fp64 reference, with pictures.",
    "iteration": "One iteration of each engine, precision and size, interleaved, with its roof.",
    "sizes": "How an iteration's cost and memory grow, from 256 px to the largest that fits.",
    "kernels": "Each style kernel against plain and compiled PyTorch, layer by layer.",
    "time-to-loss": "Seconds until the loss that the reference reaches after so many iterations.",
    "batch": "Pictures a minute of stylize_batch, and of stylize called in a loop.",
    "stylize": "From the shell to the saved picture, cold and warm.",
}


def suite(name: str) -> Suite:
    """The suite of that name; ValueError names the choices."""
    if name not in SUITES:
        raise ValueError(f"unknown suite {name!r}: expected one of {', '.join(SUITES)}")
    from stylebench.bench.suites.base import Suite

    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    return Suite(name, module.jobs)

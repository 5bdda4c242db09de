"""The suites, one file each. Names are listed in ``stylebench.bench.names``, to be had cheaply."""

from __future__ import annotations

from importlib import import_module

from stylebench.bench.names import SUITES
from stylebench.bench.suite import Suite


def suite(name: str) -> Suite:
    """The suite of that name; ValueError names the choices."""
    if name not in SUITES:
        raise ValueError(f"unknown suite {name!r}: expected one of {', '.join(SUITES)}")
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    return module.SUITE

"""The suites, one file each. Names are listed in ``stylebench.bench.suites.names``, to be had cheaply."""

from __future__ import annotations

from importlib import import_module

from stylebench.bench.suites.base import Suite
from stylebench.bench.suites.names import SUITES


def suite(name: str) -> Suite:
    """The suite of that name; ValueError names the choices."""
    if name not in SUITES:
        raise ValueError(f"unknown suite {name!r}: expected one of {', '.join(SUITES)}")
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    return module.SUITE

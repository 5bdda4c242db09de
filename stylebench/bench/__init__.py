"""Benchmarks: what a machine can do, what the engines make of it, and records of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stylebench.bench.records.store import load_results

__all__ = ["load_results"]


def __getattr__(name: str) -> object:
    # Fetched when first used: the reader imports torch, and the command line must answer at once.
    if name not in __all__:
        raise AttributeError(f"module 'stylebench.bench' has no attribute {name!r}")
    from stylebench.bench.records import store

    return getattr(store, name)

"""Whether native code can be made and run here."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from stylekernels.native.parallel import has_threads

if TYPE_CHECKING:
    from llvmlite import ir

    from stylekernels.native.compile import Library


@cache
def lanes() -> int:
    """Floats of a vector that this processor multiplies at once; needs ``llvmlite``."""
    from stylekernels.native.compile import host

    return 16 if "+avx512f" in host()[1].split(",") else 8


@cache
def has_native_code() -> bool:
    """Whether llvmlite is installed and torch's threads can be had."""
    try:
        import llvmlite.binding  # noqa: F401
    except (ImportError, OSError):  # OSError: LLVM's own library is missing or cannot be loaded
        return False
    return has_threads()


@cache
def library(build: Callable[[int], ir.Module], lanes: int) -> Library:
    """The compiled module that ``build`` writes for vectors of so many floats."""
    from stylekernels.native.compile import Library

    return Library(build, lanes)

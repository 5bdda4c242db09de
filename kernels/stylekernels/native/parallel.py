"""Native functions on torch's own threads: one pool for both, so that neither waits for the other.

torch's OpenMP is GNU's on Linux, whose entry point every compiler's ``omp parallel`` calls.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch


def parallel(address: int, arguments: Sequence[int], threads: int) -> None:
    """Call ``void function(int64 *arguments)`` on so many threads at once, and wait for them.

    Args:
        address: of the function.
        arguments: numbers and addresses, one array that all threads share.
        threads: calls at once.
    """
    shared = (ctypes.c_int64 * len(arguments))(*arguments)
    _entry()(address, ctypes.addressof(shared), threads, 0)


@cache
def has_threads() -> bool:
    """Whether torch's threads can be had."""
    try:
        _entry()
    except (AttributeError, OSError, TypeError):  # other OpenMPs; Windows has no such library
        return False
    return True


@cache
def _entry() -> Any:
    torch.get_num_threads()  # torch is loaded, and its OpenMP with it
    entry = ctypes.CDLL(None).GOMP_parallel
    entry.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    entry.restype = None
    return entry

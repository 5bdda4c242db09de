"""Native functions on torch's own threads: one pool for both, so that neither waits for the other.

torch's OpenMP is GNU's on Linux, whose entry point every compiler's ``omp parallel`` calls.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

_forked = False  # whether this process was forked after torch was loaded


def parallel(address: int, arguments: Sequence[int], threads: int) -> None:
    """Call ``void function(int64 *arguments)`` on so many threads at once, and wait for them.

    A forked process has one thread: OpenMP would wait for those that a fork does not copy.

    Args:
        address: of the function.
        arguments: numbers and addresses, one array that all threads share.
        threads: calls at once.
    """
    shared = (ctypes.c_int64 * len(arguments))(*arguments)
    _entry()(address, ctypes.addressof(shared), 1 if _forked else threads, 0)


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


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)

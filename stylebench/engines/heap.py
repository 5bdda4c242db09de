"""The C library's heap, which keeps what is freed for a while, or for good."""

from __future__ import annotations

import ctypes
import sys


def malloc_trim() -> None:
    """Give free memory back to the system, where the C library is glibc: a few ms.

    What lies between blocks still in use would otherwise stay with the process to its end.
    """
    if sys.platform != "linux":
        return
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)

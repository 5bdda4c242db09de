"""The C library's heap, which keeps freed memory in the process unless it is trimmed."""

from __future__ import annotations

import ctypes
import sys


def malloc_trim() -> None:
    """Return the heap's free pages to the system, where the C library is glibc; takes a few ms.

    Free pages between blocks in use would otherwise stay with the process to its end.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

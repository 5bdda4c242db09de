"""The many words for memory that has run out. Nothing heavy is imported to know them."""

from __future__ import annotations

_WORDS = (  # in the messages of allocators and libraries, of the GPU and of the CPU
    "out of memory", "not enough memory", "can't allocate", "cannot allocate",
    "unable to allocate", "cudnn_status_alloc_failed", "cublas_status_alloc_failed",
)  # fmt: skip


class TooLarge(ValueError):
    """A run that cannot fit into memory, refused before anything is allocated."""


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is an out-of-memory error of Python, an allocator or a library."""
    named = isinstance(error, MemoryError | TooLarge) or type(error).__name__ == "OutOfMemoryError"
    text = str(error).lower()
    return named or any(words in text for words in _WORDS)

"""Whether native code can be made and run here."""

from functools import cache

from stylekernels.native.parallel import has_threads


@cache
def has_native_code() -> bool:
    """Whether llvmlite is installed and torch's threads can be had."""
    try:
        import llvmlite.binding  # noqa: F401
    except (ImportError, OSError):  # OSError: LLVM's own library is missing or cannot be loaded
        return False
    return has_threads()

"""Native code for CPUs: kernels written in Python as LLVM's IR, compiled for the processor."""

from stylekernels.native.folder import cache_folder, keep, read_kept
from stylekernels.native.support import has_native_code, lanes, library

__all__ = ["cache_folder", "has_native_code", "keep", "lanes", "library", "read_kept"]

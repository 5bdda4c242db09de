"""Native code for CPUs: kernels written in Python as LLVM's IR, compiled for the processor."""

from stylekernels.native.folder import cache_folder

__all__ = ["cache_folder"]

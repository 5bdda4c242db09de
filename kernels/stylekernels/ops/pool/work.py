"""The work of the kernels of `pool`: bytes alone, each element is a few additions."""

from stylekernels.runtime.launch import Launch
from stylekernels.runtime.work import Work


def _forward(launch: Launch) -> Work:
    operands = launch.arguments
    return Work((operands["x"],), (operands["y"], operands["code"]))


def _backward(launch: Launch) -> Work:
    operands = launch.arguments
    return Work((operands["grad"], operands["code"]), (operands["output"],))


WORK = {"relu_pool_fwd_kernel": _forward, "relu_pool_bwd_kernel": _backward}
"""Kernel -> the work of one launch of it."""

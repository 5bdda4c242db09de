"""The work of the gradient of a convolution's input, read off a launch's operands."""

from stylekernels.runtime.launch import Launch
from stylekernels.runtime.work import Work, arithmetic_of


def _dgrad(launch: Launch) -> Work:
    operands = launch.arguments
    gradient, weight, output = operands["gradient"], operands["weight"], operands["output"]
    positions = gradient.numel() // gradient.shape[1]
    flops = 2 * weight.numel() * positions
    tf32 = launch.constants["PRECISION"] == "tf32"
    return Work((gradient, weight), (output,), flops, arithmetic_of(gradient.dtype, tf32))


WORK = {"dgrad_kernel": _dgrad}
"""Kernel -> the work of one launch of it."""

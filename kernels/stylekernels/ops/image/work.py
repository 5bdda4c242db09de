"""The work of the kernels that an image enters the network and leaves it by: bytes alone."""

from stylekernels.runtime.launch import Launch
from stylekernels.runtime.work import Work


def _input(launch: Launch) -> Work:
    operands = launch.arguments
    return Work((operands["image"],), (operands["x"], operands["check"]))


def _gradient(launch: Launch) -> Work:
    """Whole pixels are read, for a sector of memory holds all of their channels."""
    operands = launch.arguments
    return Work((operands["gradient"],), (operands["output"],))


WORK = {
    "network_input_kernel": _input,
    "image_gradient_kernel": _gradient,
}
"""Kernel -> the work of one launch of it."""

"""The work of the kernels of `tv`: bytes alone; neighbors are read from a cache."""

from stylekernels.runtime.launch import Launch
from stylekernels.runtime.work import Work


def _forward(launch: Launch) -> Work:
    return Work((launch.arguments["x"],), (launch.arguments["partials"],))


def _backward(launch: Launch) -> Work:
    operands, constants = launch.arguments, launch.constants
    optional = [("INCOMING", "incoming"), ("LOSS_GRADIENT", "loss_gradient")]
    terms = [operands[name] for switch, name in optional if constants[switch]]
    return Work((operands["x"], *terms), (operands["output"],))


WORK = {"tv_fwd_kernel": _forward, "tv_bwd_kernel": _backward}
"""Kernel -> the work of one launch of it."""

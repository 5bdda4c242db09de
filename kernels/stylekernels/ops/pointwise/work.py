"""The work of the pointwise kernels, and of the one that adds up partial sums: bytes alone."""

from stylekernels.runtime.launch import Launch
from stylekernels.runtime.work import Work


def _bias_relu(launch: Launch) -> Work:
    x = launch.arguments["x"]
    return Work((x, launch.arguments["bias"]), (x,))


def _content(launch: Launch) -> Work:
    operands = launch.arguments
    factors = (operands["channel_scale"],) if launch.constants["CHANNEL_SCALE"] else ()
    return Work((operands["x"], operands["target"], *factors), (operands["partials"],))


def _content_backward(launch: Launch) -> Work:
    operands, constants = launch.arguments, launch.constants
    optional = [
        ("INCOMING", "incoming"),
        ("LOSS_GRADIENT", "loss_gradient"),
        ("CHANNEL_SCALE", "channel_scale"),
    ]
    terms = [operands[name] for switch, name in optional if constants[switch]]
    return Work((operands["x"], operands["target"], *terms), (operands["output"],))


def _total(launch: Launch) -> Work:
    return Work((launch.arguments["partials"],), (launch.arguments["output"],))


WORK = {
    "bias_relu_kernel": _bias_relu,
    "content_fwd_kernel": _content,
    "content_bwd_kernel": _content_backward,
    "total_fwd_kernel": _total,
}
"""Kernel -> the work of one launch of it."""

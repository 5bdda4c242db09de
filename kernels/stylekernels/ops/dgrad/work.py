"""The work of the gradient of a convolution's input, read off a launch's operands."""

from stylekernels.ops.style.work import product_flops
from stylekernels.runtime.launch import Launch
from stylekernels.runtime.work import Work, arithmetic_of


def _dgrad(launch: Launch) -> Work:
    operands, constants = launch.arguments, launch.constants
    gradient, weight, output = operands["gradient"], operands["weight"], operands["output"]
    outputs = gradient.shape[1]
    flops = 2 * weight.numel() * gradient.numel() // outputs
    reads = [gradient, weight]
    if constants["TAP"]:
        flops += product_flops(outputs, gradient.numel())
        optional = [("SCALED", "scale"), ("CHANNEL_SCALE", "channel_scale")]
        names = ["y", "s", *(name for switch, name in optional if constants[switch])]
        reads += [operands[name] for name in names]
    tf32 = constants["PRECISION"] == "tf32"
    return Work(tuple(reads), (output,), flops, arithmetic_of(gradient.dtype, tf32))


WORK = {"dgrad_kernel": _dgrad}
"""Kernel -> the work of one launch of it."""

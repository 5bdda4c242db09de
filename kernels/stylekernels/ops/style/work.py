"""The work of the kernels of `style`, read off a launch's operands."""

from stylekernels.runtime.launch import Launch
from stylekernels.runtime.work import Arithmetic, Work, arithmetic_of


def product_flops(channels: int, elements: int) -> int:
    """Return the FLOPs of X^T X, or of X S, for so many elements of X [M, C].

    Two a multiply-add; that X^T X is symmetric is not deducted.
    """
    return 2 * channels * elements


def _gram(launch: Launch) -> Work:
    operands = launch.arguments
    x = operands["x"]
    bound = launch.constants["BOUND"]
    return Work(
        (x, operands["target"]) if bound else (x,),
        (operands["workspace"], operands["ticket"], *((operands["bounds"],) if bound else ())),
        product_flops(x.shape[1], x.numel()),
        _products(launch),
    )


def _finish(launch: Launch) -> Work:
    operands = launch.arguments
    workspace, output, ticket = operands["workspace"], operands["output"], operands["ticket"]
    if not launch.constants["STYLE"]:
        return Work((workspace,), (output,), workspace.numel())
    optional = [("FITTED", "bounds"), ("CHANNEL_SCALE", "channel_scale")]
    small = [operands[name] for switch, name in optional if launch.constants[switch]]
    written = (output, operands["loss"], operands["scale"], operands["partials"], ticket)
    return Work((workspace, operands["target"], ticket, *small), written, workspace.numel())


def _tap_backward(launch: Launch) -> Work:
    operands, constants = launch.arguments, launch.constants
    optional = [
        ("INCOMING", "incoming"),
        ("CONTENT", "content"),
        ("LOSS_GRADIENT", "loss_gradient"),
        ("SCALED", "scale"),
        ("CHANNEL_SCALE", "channel_scale"),
    ]
    terms = [operands[name] for switch, name in optional if constants[switch]]
    x = operands["x"]
    return Work(
        (x, operands["s"], *terms),
        (operands["output"],),
        product_flops(x.shape[1], x.numel()),
        _products(launch),
    )


def _products(launch: Launch) -> Arithmetic:
    """Return the arithmetic of a kernel's products."""
    return arithmetic_of(launch.arguments["x"].dtype, launch.constants["PRECISION"] == "tf32")


WORK = {
    "gram_fwd_kernel": _gram,
    "gram_finish_kernel": _finish,
    "tap_bwd_kernel": _tap_backward,
    "tap_bwd_resident_kernel": _tap_backward,
}
"""Kernel -> the work of one launch of it."""

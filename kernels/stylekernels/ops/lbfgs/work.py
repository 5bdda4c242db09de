"""The work of the kernels of `lbfgs` once the history is full: every row of it is read."""

from stylekernels.runtime.launch import Launch
from stylekernels.runtime.work import Work


def _dots(launch: Launch) -> Work:
    operands = launch.arguments
    history, g, before = operands["history"], operands["grad"], operands["previous"]
    spare_y = history[0, 1]  # whichever slot is spare, its size is this one's
    rows = 2 * history.shape[0] - 1
    return Work(
        (g, operands["scaled"], before[0], before[2], history[1:], history[0, 0], operands["ring"]),
        (spare_y, operands["partials"]),
        2 * 2 * rows * g.numel(),
    )


def _recursion(launch: Launch) -> Work:
    operands = launch.arguments
    written = tuple(operands[name] for name in ("gram", "ring", "scalars", "coefficients"))
    slots = operands["gram"].shape[1]
    return Work(
        (operands["partials"], operands["loss"], *written[:3]),
        (operands["partials"][0], *written),
        2 * 3 * slots**2,
        "fp64",
    )


def _apply(launch: Launch) -> Work:
    """The step of an iteration that has the lowest loss so far, whose image is kept."""
    operands = launch.arguments
    history, g, image = operands["history"], operands["grad"], operands["image"]
    before = operands["previous"]
    small = tuple(operands[name] for name in ("coefficients", "ring", "scalars"))
    return Work(
        (g, operands["scaled"], image, history[1:], *small),
        (image, operands["best"], before[0], before[2], history[0, 0]),
        2 * 2 * (history.shape[0] - 1) * g.numel(),
    )


WORK = {
    "lbfgs_dots_kernel": _dots,
    "lbfgs_recursion_kernel": _recursion,
    "lbfgs_apply_kernel": _apply,
}
"""Kernel -> the work of one launch of it."""

"""Triton kernels for neural style transfer, behind torch operators.

Every function has a plain-torch twin, which is also what runs on a CPU. Names that end in
`_forward` and `_backward` are the same computations for engines that do without autograd; those
that end in `_` work in place.
"""

from stylekernels.bias import bias_relu_
from stylekernels.content import content_loss, content_loss_backward, content_loss_backward_
from stylekernels.gram import gram, gram_backward
from stylekernels.group import style_losses, style_losses_backward, style_losses_forward
from stylekernels.lbfgs import lbfgs_apply, lbfgs_dots, lbfgs_recursion
from stylekernels.lbfgs_state import LBFGSState, lbfgs_state
from stylekernels.pool import (
    relu_avg_pool2d,
    relu_avg_pool2d_backward,
    relu_avg_pool2d_forward,
    relu_max_pool2d,
    relu_max_pool2d_backward,
    relu_max_pool2d_forward,
)
from stylekernels.style import style_loss, style_loss_backward, style_loss_forward
from stylekernels.tap import (
    style_tap,
    style_tap_backward,
    style_tap_backward_,
    style_tap_forward,
    style_tap_forward_,
)
from stylekernels.tv import tv_loss, tv_loss_backward_

__all__ = [
    "LBFGSState",
    "bias_relu_",
    "content_loss",
    "content_loss_backward",
    "content_loss_backward_",
    "gram",
    "gram_backward",
    "lbfgs_apply",
    "lbfgs_dots",
    "lbfgs_recursion",
    "lbfgs_state",
    "relu_avg_pool2d",
    "relu_avg_pool2d_backward",
    "relu_avg_pool2d_forward",
    "relu_max_pool2d",
    "relu_max_pool2d_backward",
    "relu_max_pool2d_forward",
    "style_loss",
    "style_loss_backward",
    "style_loss_forward",
    "style_losses",
    "style_losses_backward",
    "style_losses_forward",
    "style_tap",
    "style_tap_backward",
    "style_tap_backward_",
    "style_tap_forward",
    "style_tap_forward_",
    "tv_loss",
    "tv_loss_backward_",
]

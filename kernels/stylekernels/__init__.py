"""Triton kernels for neural style transfer, behind torch operators.

Every operator has plain-torch code for CPUs (`cpu`) and an oracle that reads like its formula
(`naive`), in one folder of `ops`. Names that end in `_forward` and `_backward` are the same
computations for engines that do without autograd; those that end in `_` work in place.
"""

from stylekernels.ops.dgrad.op import dgrad, tap_dgrad
from stylekernels.ops.image.op import image_gradient, network_input
from stylekernels.ops.lbfgs.op import lbfgs_apply, lbfgs_dots, lbfgs_recursion
from stylekernels.ops.lbfgs.state import LBFGSState, lbfgs_state
from stylekernels.ops.losses.op import log_row_, loss_terms
from stylekernels.ops.pointwise.op import (
    bias_relu_,
    content_loss,
    content_loss_backward,
    content_loss_backward_,
)
from stylekernels.ops.pool.op import (
    relu_avg_pool2d,
    relu_avg_pool2d_backward,
    relu_avg_pool2d_forward,
    relu_max_pool2d,
    relu_max_pool2d_backward,
    relu_max_pool2d_forward,
)
from stylekernels.ops.spectral.op import scale_spectrum_
from stylekernels.ops.style.op import (
    gram,
    gram_backward,
    style_loss,
    style_loss_backward,
    style_loss_forward,
    style_tap_backward,
    style_tap_backward_,
)
from stylekernels.ops.tv.op import tv_loss, tv_loss_backward_

__all__ = [
    "LBFGSState",
    "bias_relu_",
    "content_loss",
    "content_loss_backward",
    "content_loss_backward_",
    "dgrad",
    "gram",
    "gram_backward",
    "image_gradient",
    "lbfgs_apply",
    "lbfgs_dots",
    "lbfgs_recursion",
    "lbfgs_state",
    "log_row_",
    "loss_terms",
    "network_input",
    "relu_avg_pool2d",
    "relu_avg_pool2d_backward",
    "relu_avg_pool2d_forward",
    "relu_max_pool2d",
    "relu_max_pool2d_backward",
    "relu_max_pool2d_forward",
    "scale_spectrum_",
    "style_loss",
    "style_loss_backward",
    "style_loss_forward",
    "style_tap_backward",
    "style_tap_backward_",
    "tap_dgrad",
    "tv_loss",
    "tv_loss_backward_",
]

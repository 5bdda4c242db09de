"""Bias and ReLU behind a convolution in one pass, for libraries that would make two of it."""

from torch import Tensor

from stylekernels.dispatch import uses_triton
from stylekernels.layout import is_matrix, output_format, require_activation, require_device
from stylekernels.operators import fake_nothing, operator


def bias_relu_(x: Tensor, bias: Tensor) -> None:
    """Put relu(x + bias) in the place of `x`.

    The sum is in fp32 (fp64 for fp64) and rounded once. Not differentiable.

    Args:
        x: [B, C, H, W], fp16, bf16 or fp32 (fp64 through plain torch).
        bias: [C], any floating dtype; fp32 keeps what low precision would lose.

    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a tensor is not floating.
    """
    require_activation(x)
    require_device(x, bias, "bias")
    if bias.shape != x.shape[1:2]:
        raise ValueError(f"bias must be [{x.shape[1]}], got {list(bias.shape)}")
    bias_relu_operator(x, bias)


@operator("bias_relu_", mutates=("x",))
def bias_relu_operator(x: Tensor, bias: Tensor) -> None:
    """Do `bias_relu_`, on whichever implementation fits the operands."""
    if not uses_triton(x, bias):
        x.add_(bias.view(1, -1, 1, 1)).relu_()
        return
    from stylekernels.device.launch import run_all
    from stylekernels.device.stream import bias_relu_launches

    dense = is_matrix(x) and x.is_contiguous(memory_format=output_format(x))
    y = x if dense else x.clone(memory_format=output_format(x))
    run_all(bias_relu_launches(y, bias.contiguous()))
    if not dense:
        x.copy_(y)


bias_relu_operator.register_fake(fake_nothing)

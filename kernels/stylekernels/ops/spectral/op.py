"""The operator between two Fourier transforms of an image: gains for its frequencies and colors."""

import torch
from torch import Tensor

from stylekernels.ops.spectral import cpu
from stylekernels.runtime.dispatch import uses_triton
from stylekernels.runtime.layout import require_device
from stylekernels.runtime.operators import fake_nothing, operator

COLORS = 3


def scale_spectrum_(spectrum: Tensor, colors: Tensor, gains: Tensor) -> None:
    """Multiply the channels of every frequency by C^T diag(g) C in place, in one kernel.

    Not differentiable.

    Args:
        spectrum: [B, 3, H, F], contiguous, complex64 (complex128 through plain torch).
        colors: C [3, 3], orthonormal rows, of the dtype of the spectrum's parts.
        gains: g [3, H, F], contiguous, likewise: of every row of C at every frequency.

    Raises:
        ValueError: a shape, layout, dtype or device does not fit.
    """
    shape = tuple(spectrum.shape)
    if len(shape) != 4 or shape[1] != COLORS or not spectrum.is_complex():
        raise ValueError(f"spectrum must be complex [B, 3, H, F], got {spectrum.dtype} {shape}")
    if not spectrum.is_contiguous():
        raise ValueError(f"spectrum must be contiguous, got strides {spectrum.stride()}")
    for name, x, wanted in (("colors", colors, (COLORS, COLORS)), ("gains", gains, shape[1:])):
        require_device(spectrum, x, name)
        if x.shape != wanted or x.dtype != spectrum.dtype.to_real() or not x.is_contiguous():
            raise ValueError(
                f"{name} must be contiguous {spectrum.dtype.to_real()} {wanted}, "
                f"got {x.dtype} {tuple(x.shape)} with strides {x.stride()}"
            )
    scale_spectrum_operator(spectrum, colors, gains)


@operator("scale_spectrum_", mutates=("spectrum",))
def scale_spectrum_operator(spectrum: Tensor, colors: Tensor, gains: Tensor) -> None:
    """Compute `scale_spectrum_`, on whichever implementation fits the operands."""
    if not uses_triton(colors, gains):
        cpu.scale_spectrum_(spectrum, colors, gains)
        return
    from stylekernels.ops.spectral.triton_spectral import spectrum_launches
    from stylekernels.runtime.launch import run_all

    run_all(spectrum_launches(torch.view_as_real(spectrum), colors, gains))


scale_spectrum_operator.register_fake(fake_nothing)

"""Gains for frequencies and colors in plain torch: the oracle, to be read beside the kernel."""

import torch
from torch import Tensor


def scale_spectrum(spectrum: Tensor, colors: Tensor, gains: Tensor) -> Tensor:
    """Return C^T diag(g) C times the three channels of every frequency.

    Shapes are those of `op.scale_spectrum_`.
    """
    C = colors.to(spectrum.dtype)
    return torch.einsum("ci,chw,cj,bjhw->bihw", C, gains.to(spectrum.dtype), C, spectrum)

"""Gains for frequencies and colors on CPUs: two small products, and a multiplication between."""

import torch
from torch import Tensor


def scale_spectrum_(spectrum: Tensor, colors: Tensor, gains: Tensor) -> None:
    """Multiply the spectrum in place; see `op.scale_spectrum_`."""
    numbers = torch.view_as_real(spectrum).flatten(2)  # [B, 3, 2 H F], a view
    mixed = colors @ numbers
    torch.view_as_complex(mixed.view(*spectrum.shape, 2)).mul_(gains)
    torch.matmul(colors.T, mixed, out=numbers)

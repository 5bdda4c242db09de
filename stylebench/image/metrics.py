"""How alike two pictures are."""

from __future__ import annotations

from math import log10

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11  # px, a side of what ``ssim`` looks at


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two images in [0, 1]."""
    error = (a - b).double().square().mean().item()
    return float("inf") if error == 0 else -10 * log10(error)


def ssim(a: Tensor, b: Tensor) -> float:
    """Mean structural similarity of [C, H, W] images in [0, 1] (Wang et al. 2004).

    The window is their 11 x 11 Gaussian of deviation 1.5, and the images are not padded.
    """
    distance = torch.arange(11, dtype=torch.float64) - 5
    bell = torch.exp(-(distance**2) / (2 * 1.5**2))
    bell /= bell.sum()

    def blur(x: Tensor) -> Tensor:
        rows = F.conv2d(x[:, None], bell.view(1, 1, -1, 1))
        return F.conv2d(rows, bell.view(1, 1, 1, -1))

    a, b = a.double(), b.double()
    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(
        (likeness / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))).mean()
    )

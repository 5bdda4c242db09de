"""Metrics of two images' similarity: PSNR and SSIM."""

from __future__ import annotations

from math import log10

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11  # px, the side of SSIM's window; images must be at least as large
_SIGMA = 1.5  # px, the standard deviation of its weights


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two images in [0, 1]; infinite where they are equal."""
    error = (a - b).double().square().mean().item()
    return float("inf") if error == 0 else -10 * log10(error)


def ssim(a: Tensor, b: Tensor) -> float:
    """Mean structural similarity of two images [C, H, W] in [0, 1].

    As Wang et al. (IEEE Trans. Image Processing 13, 2004) define it: an 11 x 11 Gaussian window of
    standard deviation 1.5 px, at every position where it fits into the image; K1 = 0.01 and
    K2 = 0.03. Channels are averaged.
    """
    distance = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(distance**2) / (2 * _SIGMA**2))
    weights /= weights.sum()

    def blur(x: Tensor) -> Tensor:
        columns = F.conv2d(x[:, None], weights.view(1, 1, -1, 1))  # [C, 1, H - 10, W]
        return F.conv2d(columns, weights.view(1, 1, 1, -1))  # [C, 1, H - 10, W - 10]

    a, b = a.double(), b.double()
    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return similarity.mean().item()

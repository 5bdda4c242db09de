"""The spectral preconditioner: how far each frequency of an image may go, before L-BFGS has learnt.

The curvature of Gatys' loss goes with the frequency. What is large and smooth in a picture lies in
flat valleys, as does its finest detail in color, and steps in between are held short by what is
steep. L-BFGS starts its two loops at H0 = gamma; with H0 = gamma P, P diagonal over frequencies,
its hundred pairs need not tell what is known beforehand.

The gains below are sqrt(|s|^2 / |y|^2) of a frequency's share in the steps s and the changes y of
the gradient, measured over runs of three pairs of pictures; docs/decisions/spectral.md has what
they are worth.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.optim.banded_transform import BandedTransform
from stylebench.processes.bands import Bands

#: Orthonormal: grey, the first color against the last, and both against the second. Red and blue
#: may be either way round.
_COLORS = (
    (1 / sqrt(3), 1 / sqrt(3), 1 / sqrt(3)),
    (1 / sqrt(2), 0.0, -1 / sqrt(2)),
    (1 / sqrt(6), -2 / sqrt(6), 1 / sqrt(6)),
)
#: Gains of each, by half octaves below the highest frequency, which a picture has at 45 degrees.
_GAINS = (
    (1.5, 0.9, 0.7, 0.7, 1.0, 2.0, 3.3, 6.0, 9.0, 12.0, 15.0),
    (8.0, 2.5, 2.0, 3.0, 1.7, 1.8, 2.2, 3.0, 4.0, 5.0, 4.0),
    (8.0, 2.2, 0.9, 1.5, 1.1, 1.0, 1.0, 1.1, 1.5, 3.0, 3.0),
)


class SpectralPreconditioner:
    """P, symmetric and positive definite: a gain for every frequency and color of an image.

    Args:
        image: [B, 3, H, W] in fp32 or fp64, of the size, dtype and device of the gradients to come.
        bands: of the picture that ``image`` is this process's rows of; None: it is the whole one.

    Raises:
        ValueError: the image is not of that shape.
    """

    def __init__(self, image: Tensor, bands: Bands | None = None) -> None:
        if image.dim() != 4 or image.shape[1] != 3:
            raise ValueError(f"image is {tuple(image.shape)}; expected [B, 3, H, W]")
        height, width = image.shape[2:]
        self._columns: BandedTransform | None = None
        if bands is not None and not bands.ranks.alone:
            height = bands.height
            self._columns = BandedTransform(bands, width)
        self._size = height, width
        self._colors = image.new_tensor(_COLORS)
        gains = _gains(height, width) / (height * width)  # the transforms' own factor
        if self._columns:
            gains = gains[:, :, self._columns.own]
        self._gains = gains.to(image).contiguous()

    def __call__(self, gradient: Tensor) -> Tensor:
        """P times ``gradient`` [B, 3, H, W], of its shape and dtype."""
        if self._columns:
            return self._columns.filtered(gradient, self._scale)
        # Without factors: cuFFT's would be a pass each.
        spectrum = torch.fft.rfft2(gradient, norm="backward").contiguous()
        self._scale(spectrum)
        return torch.fft.irfft2(spectrum, s=self._size, norm="forward")

    def _scale(self, spectrum: Tensor) -> None:
        sk.scale_spectrum_(spectrum, self._colors, self._gains)


def _gains(height: int, width: int) -> Tensor:
    """Gains [3, height, width // 2 + 1] of the frequencies of a real picture's transform, fp64."""
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)[None, :]
    highest = sqrt(0.5)  # cycles a pixel
    octaves = -torch.log2(torch.hypot(rows, columns) / highest)  # infinite at the mean
    last = len(_GAINS[0]) - 1
    place = (2 * octaves - 0.5).clamp(0, last)  # a gain belongs to the middle of its half octave
    below = place.floor().clamp(max=last - 1)
    logs = torch.tensor(_GAINS, dtype=torch.float64).log()[:, below.long()]
    above = torch.tensor(_GAINS, dtype=torch.float64).log()[:, below.long() + 1]
    return torch.lerp(logs, above, (place - below)).exp()

"""The work of the kernel of an image's spectrum, read off its launch's operands."""

from stylekernels.runtime.launch import Launch
from stylekernels.runtime.work import Work


def _spectrum(launch: Launch) -> Work:
    spectrum, colors, gains = (launch.arguments[name] for name in ("spectrum", "colors", "gains"))
    mixes = 2 * 2 * 3  # there and back, a multiply-add for every color
    return Work((spectrum, colors, gains), (spectrum,), (mixes + 1) * spectrum.numel())


WORK = {"scale_spectrum_kernel": _spectrum}
"""Kernel -> the work of one launch of it."""

"""The kernel of an image's spectrum: one read and one write for both mixes of colors and gains."""

from math import ceil

import triton
import triton.language as tl
from torch import Tensor

from stylekernels.runtime.config import PointwiseConfig, gpu_of, select
from stylekernels.runtime.launch import Launch


@triton.jit
def scale_spectrum_kernel(
    spectrum,  # [batch, 3, count, 2], real and imaginary parts
    colors,  # [3, 3]
    gains,  # [3, count]
    count,
    BLOCK: tl.constexpr,  # numbers, two a frequency
):
    """Write C^T diag(g) C of the channels of BLOCK / 2 frequencies over them."""
    blocks = tl.cdiv(2 * count, BLOCK)
    batch = (tl.program_id(0) // blocks).to(tl.int64)
    first = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK
    at = first + tl.arange(0, BLOCK)
    inside = at < 2 * count
    frequency = first // 2 + tl.arange(0, BLOCK // 2)
    red = spectrum + batch * 6 * count
    green = red + 2 * count
    blue = green + 2 * count
    r = tl.load(red + at, inside, other=0.0)
    g = tl.load(green + at, inside, other=0.0)
    b = tl.load(blue + at, inside, other=0.0)
    new_r = tl.zeros((BLOCK,), tl.float32)
    new_g = tl.zeros((BLOCK,), tl.float32)
    new_b = tl.zeros((BLOCK,), tl.float32)
    for color in tl.static_range(3):
        of_r = tl.load(colors + 3 * color)
        of_g = tl.load(colors + 3 * color + 1)
        of_b = tl.load(colors + 3 * color + 2)
        gain = tl.load(gains + color * count + frequency, frequency < count, other=0.0)
        mixed = (of_r * r + of_g * g + of_b * b) * tl.interleave(gain, gain)
        new_r += of_r * mixed
        new_g += of_g * mixed
        new_b += of_b * mixed
    tl.store(red + at, new_r, inside)
    tl.store(green + at, new_g, inside)
    tl.store(blue + at, new_b, inside)


def spectrum_launches(
    spectrum: Tensor, colors: Tensor, gains: Tensor, config: PointwiseConfig | None = None
) -> list[Launch]:
    """Plan the launch of `op.scale_spectrum_`.

    Args:
        spectrum: [B, 3, H, F, 2], contiguous: real and imaginary parts.
        colors: [3, 3].
        gains: [3, H, F].
        config: the blocks, if not the selected ones.
    """
    batch, count = len(spectrum), gains[0].numel()
    blocks = config or select(PointwiseConfig, gains.dtype, 1, 2 * count, gpu_of(gains.device))
    return [
        Launch(
            scale_spectrum_kernel,
            (batch * ceil(2 * count / blocks.block),),
            {"spectrum": spectrum, "colors": colors, "gains": gains, "count": count},
            {"BLOCK": blocks.block},
            blocks.num_warps,
            blocks.num_stages,
        )
    ]

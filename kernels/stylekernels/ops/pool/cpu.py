"""ReLU and pooling on CPUs: native code for fp32, plain torch for the rest.

Plain torch goes band by band, and by integer operations on the bits of floats: comparisons of
floats are slow there.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stylekernels.ops.pool import native
from stylekernels.runtime.layout import CHUNK, INTEGERS, bands


def _bands(code: Tensor, like: Tensor) -> list[slice]:
    """Bands of window rows; memory for all of them costs more to obtain than to fill."""
    return bands(code, 2 * CHUNK // like.element_size())


def pool(x: Tensor, y: Tensor, code: Tensor, maximum: bool) -> None:
    """Write the pooling of relu(x) to `y`, and where its gradient goes to `code`."""
    if native.supports(x, y, code):
        native.pool(x, y, code, "maximum" if maximum else "average")
        return
    pool_band = _max_pool if maximum else _average_pool
    for band in _bands(code, x):
        rows = x[:, :, 2 * band.start : 2 * band.stop, : 2 * y.shape[3]]
        pool_band(rows, y[:, :, band], code[:, :, band])


def _max_pool(x: Tensor, y: Tensor, code: Tensor) -> None:
    highest, at = F.max_pool2d(x, 2, return_indices=True)
    torch.clamp_min(highest, 0, out=y)
    height, width = x.shape[2:]  # both even, so that a column's parity is that of its index
    # Small integers, added and shifted: vector instructions, unlike division and comparison.
    kind = torch.int16 if height * width < 1 << 15 else torch.int32
    at = at.to(kind)
    lower = torch.arange(width, height * width, 2 * width, dtype=kind, device=x.device)
    right = at.bitwise_and(1).add_(1)  # left 1, right 2
    sign = at.sub_(lower.view(-1, 1)).bitwise_right_shift_(torch.iinfo(kind).bits - 1)
    down = sign.mul_(3).add_(4)  # upper row 1, lower row 4
    code.copy_(right.mul_(down).mul_(_positive(y).to(kind)))


def _average_pool(x: Tensor, y: Tensor, code: Tensor) -> None:
    x = F.relu(x)
    y.copy_(F.avg_pool2d(x, 2))
    on = _positive(x)
    rows = torch.add(on[:, :, ::2], on[:, :, 1::2], alpha=4)
    code.copy_(torch.add(rows[..., ::2], rows[..., 1::2], alpha=2))


def _positive(x: Tensor) -> Tensor:
    """1 where the output of a ReLU is above 0, else 0, as integers of its width.

    By the bits, since comparisons are slow here. A NaN is on, as torch's gradient passes it.
    """
    bits = x.view(INTEGERS[x.element_size()])
    return bits.bitwise_and(torch.iinfo(bits.dtype).max).clamp_max_(1)


def pool_backward(grad: Tensor, code: Tensor, output: Tensor, maximum: bool) -> None:
    """Write the gradient of the pooling to `output`."""
    height, width = grad.shape[2:]
    output[:, :, 2 * height :].zero_()
    output[:, :, :, 2 * width :].zero_()
    if native.supports(output, grad, code):
        native.pool_backward(grad, code, output, "maximum" if maximum else "average")
        return
    kind = INTEGERS[output.element_size()]
    for band in _bands(code, output):
        share = grad[:, :, band] if maximum else grad[:, :, band] * 0.25
        share, bits = share.view(kind), code[:, :, band].to(kind)
        into = output[:, :, 2 * band.start : 2 * band.stop, : 2 * width].view(kind)
        for bit in range(4):
            corner = into[:, :, bit // 2 :: 2, bit % 2 :: 2]
            on = (bits >> bit).bitwise_and_(1)
            torch.mul(share, on, out=corner)  # of the bits: 0 whatever the gradient is

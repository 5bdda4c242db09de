"""The gradient that every Gram term shares: (g + X S + 2c (X - P)), masked by the ReLU."""

import torch
from torch import Tensor

from stylekernels.dispatch import uses_triton
from stylekernels.layout import CHUNK, accumulator, chunks, rows
from stylekernels.mask import mask_

FAST_BFLOAT16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
"""Whether this CPU multiplies bf16 itself; without, widening to fp32 is 3 to 4 times faster."""


def write_gradient(
    x: Tensor,
    s: Tensor,
    output: Tensor,
    *,
    relu: bool,
    incoming: Tensor | None = None,
    loss_gradient: Tensor | None = None,
    content: Tensor | None = None,
    content_weight: float = 0.0,
) -> None:
    """Write (incoming + l_0 X S + l_1 2c (X - P)) to `output`, zero where x <= 0 with `relu`.

    Args:
        x: the activation, [B, C, H, W]; with `relu` the output of the ReLU.
        s: [B, C, C], symmetric, fp32.
        output: dense, shaped as `x`; may be `incoming`, may not be `x`.
        relu: whether a ReLU made `x`.
        incoming: the gradient from above.
        loss_gradient: [2], l_0 and l_1; ones if absent.
        content: P.
        content_weight: c.
    """
    if loss_gradient is not None:
        loss_gradient = loss_gradient.contiguous()  # autograd hands over expanded scalars
    s = s.contiguous()
    if not uses_triton(x, s, output, incoming, loss_gradient, content):
        gradient_twin(x, s, output, relu, incoming, loss_gradient, content, content_weight)
        return
    from stylekernels.device.launch import run_all
    from stylekernels.device.tap import backward_launches

    run_all(
        backward_launches(
            [x],
            [s],
            [output],
            relu=relu,
            incoming=None if incoming is None else [incoming],
            loss_gradients=None if loss_gradient is None else [loss_gradient],
            contents=None if content is None else [content],
            content_weights=[] if content is None else [content_weight],
        )
    )


def gradient_twin(
    x: Tensor,
    s: Tensor,
    output: Tensor,
    relu: bool,
    incoming: Tensor | None = None,
    loss_gradient: Tensor | None = None,
    content: Tensor | None = None,
    content_weight: float = 0.0,
) -> None:
    """Compute `write_gradient` in plain torch, chunk by chunk so that each pass hits the cache."""
    kind = accumulator(x.dtype)
    narrow = x.dtype == torch.bfloat16 and (FAST_BFLOAT16 or x.is_cuda) and content is None
    working = x.dtype if narrow else kind
    factor: float | Tensor = 2.0 * content_weight
    s = s.to(kind)
    if loss_gradient is not None:
        s = s * loss_gradient[0]
        if content is not None:
            factor = factor * loss_gradient[1].to(kind)
    s = s.to(working)
    x_rows, output_rows = rows(x), rows(output)
    incoming_rows = None if incoming is None else rows(incoming)
    content_rows = None if content is None else rows(content)
    for b in range(len(x_rows)):
        for run in chunks(x_rows[b], None if working == x.dtype else CHUNK):
            here, into = x_rows[b, run], output_rows[b, run]
            wide = here.to(working)
            total = into if into.dtype == working else torch.empty_like(into, dtype=working)
            if incoming_rows is None:
                torch.mm(wide, s[b], out=total)
            else:
                torch.addmm(incoming_rows[b, run].to(working), wide, s[b], out=total)
            if content_rows is not None:
                total += factor * (wide - content_rows[b, run])
            if total is not into:
                into.copy_(total)
            if relu:
                mask_(into, here)

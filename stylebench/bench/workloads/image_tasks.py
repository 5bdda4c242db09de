"""The image's way into a network, and its gradient's way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import stylekernels
from stylebench.bench.workloads.tasks import Outputs, Task, eager_and_compiled
from stylekernels.ops.image import naive

_FACTOR = 2.0**-7  # as the powers of two of fp16's rescaling


def image_tasks(size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Iterator[Task]:
    """Yield the one task: the network's input from an image, and the image's gradient.

    Args:
        size: (height, width) of the image, px.
        dtype: of the input; below fp32 it has the image's rounding errors as well.
        device: of the operands.
    """
    parts = 1 if dtype == torch.float32 else 2
    channels = 16 // dtype.itemsize  # what tensor cores read at once
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, 3, *size), generator=generator).to(device)
    gradient = torch.randn((1, channels, *size), generator=generator).to(
        device, dtype, memory_format=torch.channels_last
    )

    def plain(kind: torch.dtype) -> Callable[[Tensor, Tensor], Outputs]:
        def evaluate(image: Tensor, gradient: Tensor) -> Outputs:
            x = naive.network_input(image, _FACTOR, kind, parts, channels)
            out = naive.image_gradient(gradient, _FACTOR, 3, image.dtype)
            return x.contiguous(memory_format=torch.channels_last), out.contiguous()

        return evaluate

    def ours(image: Tensor, gradient: Tensor) -> Outputs:
        x, _ = stylekernels.network_input(image, _FACTOR, dtype, parts=parts, channels=channels)
        return x, stylekernels.image_gradient(gradient, _FACTOR, 3, image.dtype)

    eager, exact = plain(dtype), plain(torch.float64)
    yield Task(
        "image",
        "image",
        eager_and_compiled(eager, eager, ours, baddbmm=False),
        (image, gradient),
        lambda image, gradient: exact(image.double(), gradient.double()),
        2 * (image.nbytes + gradient.nbytes),  # the input is as large as its gradient
    )

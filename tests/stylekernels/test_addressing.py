"""Offsets beyond 2^31: reached by strides, over memory that is reserved but never touched."""

import mmap
import sys

import pytest
import torch

import stylekernels
from stylekernels.ops.dgrad import naive as dgrad_naive
from stylekernels.ops.style import naive

try:
    import triton
    import triton.language as tl

    from stylekernels.ops.style.triton_gram import offsets
except ImportError:
    triton = None

FAR = 2**29


def probe(wide, narrow, stride):
    positions = tl.arange(0, 16)
    at = positions[:, None] * 16 + positions[None, :]
    tl.store(wide + at, offsets(positions, positions, stride, True))
    tl.store(narrow + at, (positions[:, None] * stride + positions[None, :]).to(tl.int64))


@pytest.fixture
def sparse(device):
    """fp16 zeros to past the 2^31st element: 4.3 GB of addresses, of which a few pages exist."""
    if device.type == "cuda":
        if torch.cuda.mem_get_info()[0] < 8 << 30:
            pytest.skip("less than 8 GiB of GPU memory free")
        return torch.zeros(4 * FAR + 256, dtype=torch.float16, device=device)
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux is known to reserve addresses without memory")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    return torch.frombuffer(mmap.mmap(-1, 2 * (4 * FAR + 256), flags=flags), dtype=torch.float16)


@pytest.mark.parametrize("order", ["channels-last", "contiguous"])
def test_elements_past_the_31st_bit_are_read_and_written(order, sparse, no_worse_than):
    if order == "channels-last":
        x = sparse.as_strided((1, 16, 1, 5), (0, 1, 0, FAR))
    else:
        x = sparse.as_strided((1, 5, 1, 16), (0, FAR, 0, 1))
    x.copy_(torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).relu())
    wide = x.double().cpu()
    target = torch.zeros(x.shape[1], x.shape[1], device=x.device)
    loss, *slope = stylekernels.style_loss_forward(x, target, 1.0)
    exact_loss, exact_s = naive.style_loss_forward(wide, target.double().cpu(), 1.0)
    no_worse_than(loss, exact_loss.float(), exact_loss, ulps=16)
    s, scale = slope
    no_worse_than((s * scale).half(), exact_s.half(), exact_s)
    exact = naive.style_tap_backward(wide, torch.ones_like(wide), exact_s)
    stylekernels.style_tap_backward_(x, torch.ones_like(wide).to(x), *slope)  # x is written to
    no_worse_than(x, exact.half(), exact)


def test_gradients_past_the_31st_bit_are_read(sparse, no_worse_than):
    gradient = sparse.as_strided((1, 16, 1, 5), (0, 1, 0, FAR))
    generator = torch.Generator().manual_seed(2)
    gradient.copy_(torch.randn(gradient.shape, generator=generator))
    weight = torch.randn((16, 3, 3, 3), generator=generator).to(gradient)
    exact = dgrad_naive.dgrad(gradient.double().cpu(), weight.double().cpu())
    no_worse_than(stylekernels.dgrad(gradient, weight), exact.half(), exact)


@pytest.mark.skipif(triton is None, reason="Triton is not installed")
def test_offsets_in_32_bits_would_have_wrapped(device):
    """The guard bites: the same block of offsets without 64 bits reads before the tensor."""
    if device.type == "cpu" and not triton.knobs.runtime.interpret:
        pytest.skip("plain torch has no offsets of its own")
    wide, narrow = torch.zeros((2, 16, 16), dtype=torch.int64, device=device)
    triton.jit(probe)[(1,)](wide, narrow, FAR, enable_fp_fusion=True)
    rows = torch.arange(16, device=device)
    expected = rows[:, None] * FAR + rows
    assert torch.equal(wide, expected)
    assert not torch.equal(narrow, expected)
    assert narrow[4, 0] < 0

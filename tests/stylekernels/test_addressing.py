"""Offsets beyond 2^31: reached by strides, over memory that is reserved but never touched."""

import mmap
import sys

import pytest
import torch

import stylekernels

try:
    import triton
    import triton.language as tl

    from stylekernels.device.gram import offsets
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
    x.copy_(torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))
    dense = x.clone(memory_format=torch.contiguous_format)
    oracle = torch.relu(dense.double().cpu()).flatten(2)
    target = torch.zeros(x.shape[1], x.shape[1], device=x.device)
    losses, s = stylekernels.style_tap_forward_(x, target, 1.0)
    gram = oracle @ oracle.mT / oracle.shape[2]
    assert torch.equal(x, torch.relu(dense))
    no_worse_than(losses[0], gram.square().sum().float(), gram.square().sum(), ulps=16)
    no_worse_than(s, (4 / oracle.shape[2] * gram).float(), 4 / oracle.shape[2] * gram, ulps=4)


@pytest.mark.skipif(triton is None, reason="Triton is not installed")
def test_offsets_in_32_bits_would_have_wrapped(device):
    """The guard bites: the same block of offsets without 64 bits reads before the tensor."""
    if device.type == "cpu" and not triton.knobs.runtime.interpret:
        pytest.skip("the twin has no offsets of its own")
    wide, narrow = torch.zeros((2, 16, 16), dtype=torch.int64, device=device)
    triton.jit(probe)[(1,)](wide, narrow, FAR, enable_fp_fusion=True)
    rows = torch.arange(16, device=device)
    expected = rows[:, None] * FAR + rows
    assert torch.equal(wide, expected)
    assert not torch.equal(narrow, expected)
    assert narrow[4, 0] < 0

"""Offsets beyond 2^31: reached by strides, over memory that is reserved but never touched."""

import mmap

import pytest
import torch

import stylekernels

FAR = 2**29


@pytest.fixture
def sparse(device):
    """fp16 zeros to past the 2^31st element: 4.3 GB of addresses, of which a few pages exist."""
    if device.type == "cuda":
        if torch.cuda.mem_get_info()[0] < 8 << 30:
            pytest.skip("less than 8 GiB of GPU memory free")
        return torch.zeros(4 * FAR + 256, dtype=torch.float16, device=device)
    if not hasattr(mmap, "MAP_NORESERVE"):
        pytest.skip("this system cannot reserve addresses without memory")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE
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


def test_offsets_in_32_bits_would_have_wrapped(device):
    """The guard bites: the same block of offsets without 64 bits reads before the tensor."""
    triton = pytest.importorskip("triton")
    if device.type == "cpu" and not triton.knobs.runtime.interpret:
        pytest.skip("the twin has no offsets of its own")
    import triton.language as tl

    from stylekernels.device.gram import offsets

    @triton.jit
    def probe(wide, narrow, stride, block: tl.constexpr):
        positions = tl.arange(0, block)
        at = positions[:, None] * block + positions[None, :]
        tl.store(wide + at, offsets(positions, positions, stride, True))
        tl.store(narrow + at, (positions[:, None] * stride + positions[None, :]).to(tl.int64))

    wide, narrow = torch.zeros((2, 16, 16), dtype=torch.int64, device=device)
    probe[(1,)](wide, narrow, FAR, 16, enable_fp_fusion=True)
    rows = torch.arange(16, device=device)
    expected = rows[:, None] * FAR + rows
    assert torch.equal(wide, expected)
    assert not torch.equal(narrow, expected)
    assert narrow[4, 0] < 0

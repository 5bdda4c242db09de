"""Winograd's convolution: formulas in fp64, native code against fp64, and what it refuses."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from stylekernels.native import cache_folder, has_native_code
from stylekernels.ops.conv import op
from stylekernels.ops.conv.naive import winograd as naive
from stylekernels.ops.conv.op import Winograd, Workspace, supports
from stylekernels.ops.pointwise.cpu import mask_
from stylekernels.ops.pool.op import relu_avg_pool2d_forward, relu_max_pool2d_forward

native = pytest.mark.skipif(
    not supports(torch.empty(16, 16, 3, 3)), reason="no native code on this platform"
)

# (C, K) of VGG's layers but the first, smaller where only their relation matters, and one that
# fills neither a group of outputs nor a sum of products
CHANNELS = [(64, 64), (64, 128), (128, 64), (256, 512), (16, 16), (144, 48)]
SIZES = [(1, 1), (1, 9), (3, 2), (4, 4), (5, 7), (16, 12), (33, 21)]


def layer(inputs, outputs, height, width, batch=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(batch, inputs, height, width, generator=generator, dtype=dtype)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator, dtype=dtype)
    bias = torch.randn(outputs, generator=generator, dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last), weight / (3 * inputs**0.5), bias


def exactly(x, weight, bias, padding=1):
    return F.conv2d(x.double(), weight.double(), bias.double(), padding=padding)


def error(result, exact):
    return ((result - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_formulas_are_the_convolution(size):
    x, weight, bias = layer(5, 7, *size, batch=2, dtype=torch.float64)
    assert error(naive(x, weight), exactly(x, weight, 0 * bias)) <= 1e-14


def test_the_gradient_of_the_formulas_is_the_convolution_with_flipped_kernels():
    x, weight, _ = layer(2, 3, 5, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: naive(x, weight), x.requires_grad_())
    y = naive(x, weight)
    above = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, above)
    flipped = weight.flip(2, 3).transpose(0, 1)
    assert error(naive(above, flipped), gradient) <= 1e-14


@native
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", CHANNELS, ids=str)
def test_native_code_is_as_accurate_as_direct_convolution(channels, size):
    x, weight, bias = layer(*channels, *size)
    exact = exactly(x, weight, bias)
    convolution = Winograd(weight, bias, Workspace())
    limit = 3 * error(F.conv2d(x, weight, bias, padding=1), exact) + 5e-7
    assert error(convolution(x), exact) <= limit
    assert error(convolution(x, relu=True), exact.relu()) <= limit
    assert convolution(x).is_contiguous(memory_format=torch.channels_last)


@native
@pytest.mark.parametrize("size", [*SIZES[3:], (2, 2), (7, 9), (14, 2)], ids=str)
@pytest.mark.parametrize("maximum", [True, False])
def test_pooling_in_the_cache_has_the_bits_of_pooling_afterwards(size, maximum):
    x, weight, bias = layer(16, 48, *size, batch=2)
    convolution = Winograd(weight, bias, Workspace())
    pool = relu_max_pool2d_forward if maximum else relu_avg_pool2d_forward
    expected = pool(convolution(x))
    assert all(map(torch.equal, convolution.pooled(x, maximum=maximum), expected))
    y, code = (torch.zeros_like(t) for t in expected)
    written = convolution.pooled(x, maximum=maximum, output=(y, code))
    assert written[0] is y
    assert written[1] is code
    assert torch.equal(y, expected[0])
    assert torch.equal(code, expected[1])


@native
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_mask_in_the_cache_has_the_bits_of_one_afterwards(size):
    x, weight, bias = layer(16, 48, *size, batch=2)
    convolution = Winograd(weight, bias, Workspace())
    mask = torch.randn(2, 48, *size, generator=torch.Generator().manual_seed(6))
    mask = mask.contiguous(memory_format=torch.channels_last)
    mask[0, 0, 0, 0], mask[0, 1, 0, 0], mask[0, 2, 0, 0] = torch.nan, 0.0, -0.0
    expected = mask_(convolution(x), mask)
    assert torch.equal(convolution(x, mask=mask), expected)
    assert convolution(x, mask=mask, output=mask) is mask  # over itself
    assert torch.equal(mask, expected)


@native
def test_rows_of_a_larger_map_are_written_and_no_others():
    x, weight, bias = layer(16, 32, 7, 10)
    convolution = Winograd(weight, bias, Workspace())
    whole = torch.full((1, 21, 10, 32), 7.0).permute(0, 3, 1, 2)
    rows = whole[:, :, 7:14]
    assert convolution(x, output=rows) is rows
    assert torch.equal(rows, convolution(x))
    assert (whole[:, :, :7] == 7).all()
    assert (whole[:, :, 14:] == 7).all()


@native
@pytest.mark.parametrize(
    "wrong",
    [
        torch.empty(1, 32, 7, 10),  # NCHW
        torch.empty(1, 7, 10, 32).double().permute(0, 3, 1, 2),
        torch.empty(1, 7, 9, 32).permute(0, 3, 1, 2),
        torch.empty(1, 7, 10, 64).permute(0, 3, 1, 2)[:, :32],
    ],
    ids=["layout", "dtype", "width", "channels apart"],
)
def test_what_would_be_written_elsewhere_is_refused(wrong):
    x, weight, bias = layer(16, 32, 7, 10)
    convolution = Winograd(weight, bias, Workspace())
    with pytest.raises(ValueError, match=r"output must be torch.float32 \(1, 32, 7, 10\)"):
        convolution(x, output=wrong)
    with pytest.raises(ValueError, match=r"mask must be torch.float32 \(1, 32, 7, 10\)"):
        convolution(x, mask=wrong)
    with pytest.raises(ValueError, match=r"output must be torch.float32 \(1, 32, 3, 5\)"):
        convolution.pooled(x, maximum=True, output=(wrong, wrong))


@native
def test_errors_do_not_point_one_way():
    """A factor that is off moves all features, and the losses by a multiple of that."""
    x, weight, bias = layer(64, 64, 24, 24)
    x, bias = x.relu(), 0 * bias
    exact = exactly(x, weight, bias)
    result = Winograd(weight, bias, Workspace())(x).double()
    assert abs((result * exact).sum() / (exact * exact).sum() - 1) <= 1e-8


@native
@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("below", [True, False])
def test_rows_of_a_map_have_the_bits_of_the_whole(above, below):
    x, weight, bias = layer(16, 32, 16, 10)
    convolution = Winograd(weight, bias, Workspace())
    whole = convolution(x)
    start, stop = 0 if above else 4, 16 if below else 12
    rows = x[:, :, start - (not above) : stop + (not below)]
    assert torch.equal(convolution(rows, (above, below)), whole[:, :, start:stop])


@native
def test_any_number_of_threads_gives_the_same_bits():
    x, weight, bias = layer(32, 32, 30, 26)
    convolution = Winograd(weight, bias, Workspace())
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results += [convolution(x), convolution(x)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@native
def test_batches_and_strided_inputs():
    x, weight, bias = layer(16, 16, 9, 11, batch=3)
    convolution = Winograd(weight, bias, Workspace())
    expected = torch.cat([convolution(image[None]) for image in x])
    assert torch.equal(convolution(x), expected)
    assert torch.equal(convolution(x.contiguous()), expected)  # NCHW
    wide = torch.cat((x, x), dim=1).contiguous(memory_format=torch.channels_last)
    assert torch.equal(convolution(wide[:, :16]), expected)
    assert torch.equal(convolution(x[:, :, ::2]), convolution(x[:, :, ::2].contiguous()))


@native
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_finite_behind_it(value):
    x, weight, bias = layer(16, 16, 12, 12)
    x[0, 3, 6, 6] = value
    result = Winograd(weight, bias, Workspace())(x, relu=True)
    direct = F.conv2d(x, weight, bias, padding=1)
    assert not result[~direct.isfinite()].isfinite().all()
    far = torch.ones(12, 12, dtype=torch.bool)
    far[2:11, 2:11] = False  # a tile's patch around it is lost, and no more
    assert result[:, :, far].isfinite().all()


@native
def test_a_profile_shows_it():
    x, weight, bias = layer(16, 16, 8, 8)
    convolution = Winograd(weight, bias, Workspace())
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        convolution(x)
    assert "stylekernels::winograd" in [event.name for event in profiled.events()]


@native
def test_memory_that_was_used_before_does_not_show():
    x, weight, bias = layer(16, 16, 10, 10)
    workspace = Workspace()
    convolution = Winograd(weight, bias, workspace)
    expected = convolution(x)
    workspace.floats(0).fill_(torch.nan)
    assert torch.equal(convolution(x), expected)


@native
@pytest.mark.parametrize(
    "x",
    [torch.empty(1, 8, 4, 4), torch.empty(1, 16, 4, 4).double(), torch.empty(16, 4, 4)],
    ids=["channels", "dtype", "dimensions"],
)
def test_what_would_be_read_beyond_its_end_is_refused(x):
    _, weight, bias = layer(16, 16, 4, 4)
    with pytest.raises(ValueError, match=r"x must be fp32 \[B, 16, H, W\] on the CPU, got"):
        Winograd(weight, bias, Workspace())(x)


def test_other_layers_are_refused():
    assert not supports(torch.empty(16, 3, 3, 3))
    assert not supports(torch.empty(3, 16, 3, 3))
    assert not supports(torch.empty(16, 16, 3, 3, dtype=torch.float64))
    assert not supports(torch.empty(16, 16, 3, 3, device="meta"))


def test_without_llvmlite_there_is_no_native_code(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    has_native_code.cache_clear()
    try:
        assert not supports(torch.empty(16, 16, 3, 3))
    finally:
        has_native_code.cache_clear()


@native
def test_sixteen_lanes_compute_the_same(monkeypatch):
    """As processors with AVX-512 do; others do each vector in two halves."""
    if op.lanes() == 16:
        pytest.skip("the other tests are of sixteen lanes")
    x, weight, bias = layer(32, 64, 13, 9)
    monkeypatch.setattr(op, "lanes", lambda: 16)
    for cached in (op._panel, op._group):
        cached.cache_clear()
    try:
        result = Winograd(weight, bias, Workspace())(x)
    finally:
        for cached in (op._panel, op._group):
            cached.cache_clear()
    assert error(result, exactly(x, weight, bias)) <= 2e-6


SCRIPT = """
import torch
from stylekernels.ops.conv.op import Winograd, Workspace
torch.manual_seed(0)
x = torch.randn(1, 16, 8, 8).contiguous(memory_format=torch.channels_last)
print(Winograd(torch.randn(16, 16, 3, 3), None, Workspace())(x).double().sum().item())
"""


@pytest.mark.slow
@native
def test_machine_code_is_kept_for_the_next_start(tmp_path, fresh_python):
    cache = str(tmp_path / "cache")
    first = fresh_python(SCRIPT, STYLEBENCH_CACHE=cache)
    (code,) = (tmp_path / "cache").glob("*.o")
    when = code.stat().st_mtime_ns
    assert fresh_python(SCRIPT, STYLEBENCH_CACHE=cache) == first
    assert code.stat().st_mtime_ns == when
    for broken in (b"", code.read_bytes()[:-100], b"no machine code"):  # compiled again
        code.write_bytes(broken)
        assert fresh_python(SCRIPT, STYLEBENCH_CACHE=cache) == first


@pytest.mark.slow
@native
def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path, fresh_python):
    (tmp_path / "file").write_text("in the folder's place")
    sums = [
        fresh_python(SCRIPT, STYLEBENCH_CACHE=str(tmp_path / name)) for name in ("file", "cache")
    ]
    assert sums[0] == sums[1]


def test_the_folder_is_the_users_cache_unless_named(monkeypatch):
    monkeypatch.delenv("STYLEBENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(cache_folder()) == "/somewhere/stylebench"
    monkeypatch.setenv("STYLEBENCH_CACHE", "/elsewhere")
    assert str(cache_folder()) == "/elsewhere"

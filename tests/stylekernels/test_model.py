"""The cost model: kernels, bytes and operations of single computations, counted by hand here."""

import pytest
import torch
import torch.nn.functional as F

import stylekernels as sk
from stylekernels.model.gpus import DATA_SHEETS, DataSheet
from stylekernels.model.tracer import WORK, Wait, tracing
from stylekernels.runtime.config import assuming
from stylekernels.runtime.dispatch import has_triton
from stylekernels.runtime.work import Work, bytes_of

pytestmark = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")
GPU = DATA_SHEETS["h100"].gpu
HALF = {"dtype": torch.float16, "device": "cuda"}


@pytest.fixture(autouse=True)
def poisoned():
    """In place of the fixture that fills new memory: there is none."""


def traced(compute, *shapes, **kind):
    """Kernels of a computation, given operands of some shapes, channels-last."""
    with tracing(GPU) as tracer:
        operands = [torch.empty(shape, **HALF | kind) for shape in shapes]
        operands = [
            x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in operands
        ]
        tracer.restart()
        compute(*operands)
        return tracer.restart()


def names(trace):
    return [kernel.name for kernel in trace.kernels]


def test_a_gram_is_two_kernels_with_these_bytes_and_operations():
    product, finish = traced(sk.gram, (1, 64, 128, 128)).kernels
    assert (product.name, finish.name) == ("gram_fwd_kernel", "gram_finish_kernel")
    assert product.work.read == 64 * 128 * 128 * 2
    assert product.work.flops == 2 * 64 * 64 * 128 * 128
    assert product.work.arithmetic == "fp16"
    # 16,384 positions, at least 4 blocks of 64 a program: 64 partial Gram matrices in fp32
    partials = 64 * (64 * 64 * 4)
    assert product.work.written == partials + 4  # and the ticket
    assert finish.work.read == partials
    assert finish.work.written == 64 * 64 * 4


def test_a_gradient_at_a_layer_is_one_kernel_with_these_bytes_and_operations():
    def backward(above, x):
        s = torch.empty(1, 128, 128, dtype=x.dtype, device="cuda")
        sk.style_tap_backward_(above, x, s, torch.empty(1, device="cuda"))

    (kernel,) = traced(backward, (1, 128, 32, 48), (1, 128, 32, 48)).kernels
    map_bytes = 128 * 32 * 48 * 2
    assert kernel.work.read == 2 * map_bytes + 128 * 128 * 2 + 4
    assert kernel.work.written == map_bytes
    assert kernel.work.flops == 2 * 128 * 128 * 32 * 48


def behind_tap(gradient, y):
    batch, outputs = y.shape[:2]
    s, weight = y.new_empty(batch, outputs, outputs), y.new_empty(outputs, 3, 3, 3)
    sk.tap_dgrad(gradient, y, s, weight, torch.empty(batch, device="cuda"), dtype=torch.float32)


def test_the_images_gradient_behind_a_tap_is_one_kernel_with_these_bytes_and_operations():
    (kernel,) = traced(behind_tap, (1, 64, 32, 48), (1, 64, 32, 48)).kernels
    assert kernel.name == "dgrad_kernel"
    weights = 64 * 3 * 9
    assert kernel.work.read == 2 * (2 * 64 * 32 * 48 + 64 * 64 + weights) + 4
    assert kernel.work.written == 3 * 32 * 48 * 4
    assert kernel.work.flops == 2 * (64 * 64 + weights) * 32 * 48


@pytest.mark.parametrize(
    ("channels", "kind"),
    [
        pytest.param(80, {}, id="too many channels"),
        pytest.param(64, {"dtype": torch.float32}, id="fp32"),
    ],
)
def test_where_it_does_not_fit_a_tap_has_a_kernel_of_its_own(channels, kind):
    trace = traced(behind_tap, (1, channels, 8, 12), (1, channels, 8, 12), **kind)
    tap, dgrad = names(trace)
    assert tap.startswith("tap_bwd")
    assert dgrad == "dgrad_kernel"


def test_maps_of_other_layouts_go_through_two_kernels_too():
    def otherwise(gradient, y):
        for operands in ((gradient.contiguous(), y), (gradient.contiguous(), y.contiguous())):
            behind_tap(*operands)

    trace = traced(otherwise, (1, 64, 8, 12), (1, 64, 8, 12))
    assert names(trace).count("dgrad_kernel") == 2
    assert sum(name.startswith("tap_bwd") for name in names(trace)) == 2


def test_a_convolution_is_one_kernel_with_these_bytes_and_operations():
    def convolve(x, weight):
        F.conv2d(x, weight, padding=1)

    (kernel,) = traced(convolve, (1, 64, 24, 32), (128, 64, 3, 3)).kernels
    assert kernel.work.read == 2 * (64 * 24 * 32 + 128 * 64 * 9)
    assert kernel.work.written == 2 * 128 * 24 * 32
    assert kernel.work.flops == 2 * 9 * 64 * 128 * 24 * 32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_convolutions_keep_maps_channels_last(dtype):
    shapes = (1, 64, 24, 32), (128, 64, 3, 3)
    (kernel,) = traced(lambda *xs: F.conv2d(*xs, padding=1), *shapes, dtype=dtype).kernels
    (y,) = kernel.work.writes
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_a_bias_is_another_pass_over_the_map_unless_cudnn_adds_it():
    ones = (1, 1)

    def fused(x, weight, bias):
        torch.cudnn_convolution_relu(x, weight, bias, ones, ones, ones, 1)

    shapes = (1, 64, 24, 32), (128, 64, 3, 3), (128,)
    separate = traced(lambda *xs: F.conv2d(*xs, padding=1).relu_(), *shapes).kernels
    (together,) = traced(fused, *shapes).kernels
    assert [kernel.name for kernel in separate] == ["convolution", "add_", "relu_"]
    map_bytes = 2 * 128 * 24 * 32
    assert separate[1].work.read == map_bytes + 2 * 128
    assert separate[1].work.written == map_bytes
    assert together.work.flops == separate[0].work.flops
    assert together.work.written == map_bytes


def test_the_gradient_by_the_input_has_the_operations_of_the_convolution():
    shapes = (1, 128, 24, 32), (128, 64, 3, 3)
    (kernel,) = traced(lambda g, w: F.conv_transpose2d(g, w, padding=1), *shapes).kernels
    assert kernel.work.flops == 2 * 9 * 64 * 128 * 24 * 32


@pytest.mark.parametrize(
    ("compute", "read", "written"),
    [
        pytest.param(lambda x: x.mul_(2), 64, 64, id="in place"),
        pytest.param(lambda x: x.float(), 64, 128, id="to another type"),
        pytest.param(lambda x: x.fill_(0), 0, 64, id="filled"),
        pytest.param(torch.zeros_like, 0, 64, id="zeros"),
        pytest.param(lambda x: x[:2].copy_(x[2:]), 32, 32, id="copied"),
        pytest.param(lambda x: x.new_empty(4, 8).copy_(x[:1]), 16, 64, id="expanded"),
        pytest.param(lambda x: torch.cat((x, x)), 128, 128, id="joined"),
        pytest.param(
            lambda x: torch.ops.aten.threshold_backward.grad_input(x, x[:], 0, grad_input=x),
            128, 64, id="out",
        ),
    ],
)  # fmt: skip
def test_torch_kernels_read_and_write_these_bytes(compute, read, written):
    (kernel,) = traced(compute, (4, 8)).kernels
    assert (kernel.work.read, kernel.work.written) == (read, written)


def test_a_transform_back_is_a_copy_and_a_factor_more():
    """ATen's for cuFFT, which may write over its input and knows no factor."""

    def there_and_back(norms, x):
        torch.fft.irfft2(torch.fft.rfft2(x, norm=norms[0]), s=x.shape[-2:], norm=norms[1])

    shape, kind = (1, 3, 8, 8), {"dtype": torch.float32}
    for norms, expected in (
        (("backward", "forward"), ["_fft_r2c", "clone", "_fft_c2r"]),
        (("ortho", "ortho"), ["_fft_r2c", "mul_", "clone", "_fft_c2r", "mul_"]),
    ):
        trace = traced(lambda x, norms=norms: there_and_back(norms, x), shape, **kind)
        assert names(trace) == expected


def test_a_row_is_all_that_is_written_to_a_log():
    def log(rows, row):
        rows.index_copy_(0, torch.zeros(1, dtype=torch.int64, device="cuda"), row)

    kernel = traced(log, (100, 8), (1, 8)).kernels[-1]
    assert (kernel.work.read, kernel.work.written) == (8 + 16, 16)


def test_views_and_allocations_are_no_kernels():
    def look(x):
        x.permute(0, 2, 3, 1).flatten(1, 2)[:, 1:].view(torch.int16).unbind(1)
        torch.empty_like(x), x.new_empty(3), x.detach(), x.expand(2, 2, 4, 4)

    assert names(traced(look, (1, 2, 4, 4))) == []


def test_a_host_that_waits_is_noticed():
    assert traced(lambda x: x.add(1), (4,)).host_waits == []
    for wait in (lambda x: x.sum().item(), lambda x: x.cpu(), lambda x: x.copy_(torch.ones(4))):
        assert len(traced(wait, (4,)).host_waits) == 1


def test_the_fastest_a_kernel_can_be_is_its_bytes_or_its_operations():
    sheet = DataSheet(GPU, bandwidth=1e9, l2=0, peaks={"fp32": 4e9})
    x = torch.zeros(250)  # 1000 bytes
    assert sheet.seconds(Work((x,), (x,), 4000)) == 2e-6
    assert sheet.seconds(Work((x,), (x,), 40000)) == 1e-5
    assert sheet.seconds(Work((x,), (x,), 4000), cached=500) == 1.5e-6


def test_expanded_elements_are_read_once():
    assert bytes_of(torch.zeros(1, 8).expand(100, 8)) == 32


def test_streams_note_who_waits_for_whom():
    def fork(x):
        streams = tracer.streams
        side = streams.Stream()
        side.wait_stream(streams.current_stream())
        with streams.stream(side):
            x.add(1)
        streams.current_stream().wait_stream(side)
        x.mul(1)

    with tracing(GPU) as tracer:
        fork(torch.empty(4, **HALF))
        first, inner, last, outer = tracer.trace.events
    assert (first, last) == (Wait(1, 0), Wait(0, 1))
    assert (inner.stream, outer.stream) == (1, 0)


def test_every_kernel_that_style_transfer_launches_has_a_description():
    from stylekernels.tuning.workload import cases

    with assuming(GPU):
        launches = [
            launch for _, row, case in cases(32, torch.device("meta")) for launch in row(case)
        ]
    assert {launch.name for launch in launches} <= WORK.keys()
    for launch in launches:
        work = WORK[launch.name](launch)
        assert work.read > 0
        assert work.written > 0


def test_a_kernel_without_a_description_counts_with_all_its_operands(monkeypatch):
    monkeypatch.delitem(WORK, "gram_finish_kernel")
    product, finish = traced(sk.gram, (1, 64, 16, 16)).kernels
    assert product.described
    assert not finish.described
    assert finish.work.read == finish.work.written > product.work.written

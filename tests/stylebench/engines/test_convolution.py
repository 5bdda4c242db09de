"""The frozen convolution against autograd's, and the choice among its algorithms."""

import pytest
import torch
import torch.nn.functional as F

from stylebench.engines.fused import conv_autotune
from stylebench.engines.fused.conv_autotune import (
    backward_algorithms,
    forward_algorithms,
    select_fastest,
)
from stylebench.engines.fused.convolution import Convolution, pad_channels
from stylebench.model.precision import PRECISIONS, arithmetic

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = [(3, 64, 17, 22), (64, 64, 16, 16), (5, 7, 9, 4)]


def layer(inputs, outputs, height, width, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    drawn = [(1, inputs, height, width), (outputs, inputs, 3, 3), (outputs,)]
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in drawn)
    x = x.contiguous(memory_format=torch.channels_last)
    return [t.to(DEVICE, dtype) for t in (x, weight, bias)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "allowed"),
    [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)],
    ids=str,
)
def test_it_is_the_convolution_and_its_gradient(shape, dtype, allowed):
    x, weight, bias = layer(*shape, dtype)
    convolution = Convolution(weight, bias, shape[2:])
    wide = x.double().requires_grad_()
    y = F.conv2d(wide, weight.double(), bias.double(), padding=1)
    above = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, wide, above.to(dtype).double())
    above = above.to(dtype).contiguous(memory_format=torch.channels_last)
    for result, exact in (
        (convolution(x), y),
        (convolution.relu(x), y.relu()),
        (convolution.backward(above), gradient),
    ):
        assert result.dtype == dtype
        assert result.shape == exact.shape
        assert (result.double() - exact).norm() <= allowed * exact.norm()


def test_channels_of_zeros_change_nothing():
    x, weight, _ = layer(3, 64, 9, 11)
    padded = pad_channels(x, 8)
    assert padded.shape == (1, 8, 9, 11)
    assert padded.is_contiguous(memory_format=torch.channels_last)
    assert not padded[:, 3:].any()
    expected = F.conv2d(x, weight, padding=1)
    result = F.conv2d(padded, pad_channels(weight, 8), padding=1)
    assert torch.allclose(result, expected, rtol=1e-13)
    assert pad_channels(padded, 8) is padded


def test_every_algorithm_agrees_with_plain_pytorch():
    x, weight, bias = layer(8, 16, 9, 11, torch.float32)
    gradient = torch.randn(1, 16, 9, 11, generator=torch.manual_seed(4)).to(DEVICE)
    flipped = weight.flip(2, 3).transpose(0, 1).contiguous()
    for algorithms, operand in (
        (forward_algorithms(weight, bias), x),
        (backward_algorithms(weight, flipped), gradient),
    ):
        plain, *others = algorithms.values()
        expected = plain(operand)
        for algorithm in others:
            try:
                result = algorithm(operand)
            except RuntimeError:
                assert not x.is_cuda  # cuDNN's own is for its devices
                continue
            assert torch.allclose(result, expected, atol=1e-4)


def refuses(x):
    raise RuntimeError("not on this GPU")


def does_not_compile(x):
    raise SyntaxError("a compiler's error is of its own type")


ALGORITHMS = {
    "plain": lambda x: 2 * x,
    "quick": lambda x: x + x,
    "wrong": lambda x: 2.5 * x,
    "nan": lambda x: x * float("nan"),
    "hides nan": lambda x: (2 * x).nan_to_num(0.0),
    "refuses": refuses,
    "does not compile": does_not_compile,
}


@pytest.fixture
def unmeasured(monkeypatch):
    monkeypatch.setattr(conv_autotune, "_chosen", {})


def costing(**cost):
    """A measure by name of the algorithm; those without a cost take 0.5 s."""
    names = {algorithm: name for name, algorithm in ALGORITHMS.items()}
    return lambda algorithm, x: cost.get(names[algorithm], 0.5)


def test_the_fastest_correct_algorithm_is_taken(unmeasured):
    assert select_fastest(ALGORITHMS, torch.ones(4), costing(plain=3.0, quick=2.0)) == "quick"
    assert select_fastest(ALGORITHMS, torch.ones(5), costing(plain=0.1, quick=2.0)) == "plain"


def test_a_layer_is_computed_by_one_algorithm_in_a_process(unmeasured):
    """Whatever the next measurement is: the same seed gives the same bits."""
    x = torch.ones(4)
    assert select_fastest(ALGORITHMS, x, costing(plain=3.0, quick=2.0)) == "quick"
    plain_is_faster = costing(plain=0.1, quick=2.0)
    assert select_fastest(ALGORITHMS, x, plain_is_faster) == "quick"
    assert select_fastest(ALGORITHMS, x.double(), plain_is_faster) == "plain"
    others = {name: ALGORITHMS[name] for name in ("plain", "quick")}
    assert select_fastest(others, x, plain_is_faster) == "plain"
    with arithmetic(PRECISIONS["fp32"]):
        assert select_fastest(ALGORITHMS, x, plain_is_faster) == "plain"


def test_cudnn_searches_before_it_keeps_a_plan(unmeasured):
    """cuDNN keeps the first plan of a shape, searched for or not."""
    searching = []

    def record(x):
        searching.append(torch.backends.cudnn.benchmark)
        return 2 * x

    before = torch.backends.cudnn.benchmark
    select_fastest(
        {"a": record, "b": lambda x: record(x)},
        torch.ones(4),
        lambda algorithm, x: float(algorithm(x)[0]),
    )
    assert len(searching) >= 4
    assert all(searching)
    assert torch.backends.cudnn.benchmark is before


@pytest.mark.skipif(DEVICE.type != "cuda", reason="other devices have one algorithm")
def test_a_gpu_has_every_layer_measured():
    _, weight, bias = layer(64, 64, 32, 32, torch.float16)
    chosen = Convolution(weight, bias, (32, 32)).chosen
    assert set(chosen) == {"forward", "backward"}
    assert Convolution(weight, bias, (32, 32)).chosen == chosen


@pytest.mark.skipif(DEVICE.type != "cuda", reason="other devices have one algorithm")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_algorithms_chosen_on_a_gpu_let_nan_through(dtype):
    x, weight, bias = layer(64, 64, 32, 32, dtype)
    convolution = Convolution(weight, bias, (32, 32))
    spoilt = torch.full_like(x, float("nan"))
    assert convolution.relu(spoilt).isnan().all()
    assert convolution.backward(spoilt).isnan().all()

"""The frozen convolution against autograd's, and the choice among ways of doing it."""

import pytest
import torch
import torch.nn.functional as F

from stylebench.engines.fused import conv_autotune
from stylebench.engines.fused.conv_autotune import (
    backward_algorithms,
    forward_algorithms,
    select_fastest,
)
from stylebench.engines.fused.convolution import Convolution, widened
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
    for found, exact in (
        (convolution(x), y),
        (convolution.relu(x), y.relu()),
        (convolution.backward(above), gradient),
    ):
        assert found.dtype == dtype
        assert found.shape == exact.shape
        assert (found.double() - exact).norm() <= allowed * exact.norm()


def test_channels_of_zeros_change_nothing():
    x, weight, _ = layer(3, 64, 9, 11)
    wide = widened(x, 8)
    assert wide.shape == (1, 8, 9, 11)
    assert wide.is_contiguous(memory_format=torch.channels_last)
    assert not wide[:, 3:].any()
    expected = F.conv2d(x, weight, padding=1)
    assert torch.allclose(F.conv2d(wide, widened(weight, 8), padding=1), expected, rtol=1e-13)
    assert widened(wide, 8) is wide


def test_every_way_of_a_layer_agrees_with_the_plain_one():
    x, weight, bias = layer(8, 16, 9, 11, torch.float32)
    turned = weight.flip(2, 3).transpose(0, 1).contiguous()
    for ways, given in (
        (forward_algorithms(weight, bias), x),
        (backward_algorithms(weight, turned), torch.randn(1, 16, 9, 11, device=DEVICE)),
    ):
        plain, *others = ways.values()
        expected = plain(given)
        for way in others:
            try:
                found = way(given)
            except RuntimeError:
                assert not x.is_cuda  # cuDNN's own is for its devices
                continue
            assert torch.allclose(found, expected, atol=1e-4)


def refuses(x):
    raise RuntimeError("not on this GPU")


def does_not_compile(x):
    raise SyntaxError("a compiler's error is of its own type")


WAYS = {
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
    """Measures the ways of these names; every other costs next to nothing."""
    names = {way: name for name, way in WAYS.items()}
    return lambda way, x: cost.get(names[way], 0.5)


def test_the_fastest_right_way_is_taken(unmeasured):
    assert select_fastest(WAYS, torch.ones(4), costing(plain=3.0, quick=2.0)) == "quick"
    assert select_fastest(WAYS, torch.ones(5), costing(plain=0.1, quick=2.0)) == "plain"


def test_a_layer_is_computed_one_way_in_a_process(unmeasured):
    """However the next measurement comes out: the same seed gives the same bits."""
    x = torch.ones(4)
    assert select_fastest(WAYS, x, costing(plain=3.0, quick=2.0)) == "quick"
    plain_first = costing(plain=0.1, quick=2.0)
    assert select_fastest(WAYS, x, plain_first) == "quick"
    assert select_fastest(WAYS, x.double(), plain_first) == "plain"
    others = {name: WAYS[name] for name in ("plain", "quick")}
    assert select_fastest(others, x, plain_first) == "plain"
    with arithmetic(PRECISIONS["fp32"]):
        assert select_fastest(WAYS, x, plain_first) == "plain"


def test_cudnn_never_settles_for_a_plan_before_it_has_searched(unmeasured):
    """It keeps the first plan of a shape, searched for or not."""
    searching = []

    def seen(x):
        searching.append(torch.backends.cudnn.benchmark)
        return 2 * x

    before = torch.backends.cudnn.benchmark
    select_fastest(
        {"a": seen, "b": lambda x: seen(x)}, torch.ones(4), lambda way, x: float(way(x)[0])
    )
    assert len(searching) >= 4
    assert all(searching)
    assert torch.backends.cudnn.benchmark is before


@pytest.mark.skipif(DEVICE.type != "cuda", reason="elsewhere there is one way only")
def test_a_gpu_has_every_layer_measured():
    _, weight, bias = layer(64, 64, 32, 32, torch.float16)
    chosen = Convolution(weight, bias, (32, 32)).chosen
    assert set(chosen) == {"forward", "backward"}
    assert Convolution(weight, bias, (32, 32)).chosen == chosen


@pytest.mark.skipif(DEVICE.type != "cuda", reason="elsewhere there is one way only")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_what_a_gpu_chose_lets_nan_through(dtype):
    x, weight, bias = layer(64, 64, 32, 32, dtype)
    convolution = Convolution(weight, bias, (32, 32))
    spoilt = torch.full_like(x, float("nan"))
    assert convolution.relu(spoilt).isnan().all()
    assert convolution.backward(spoilt).isnan().all()

"""The style kernels against plain torch, layer by layer, parity first.

    pytest benchmarks/bench_kernels.py -k "cpu and tap" --benchmark-columns=median,iqr,rounds

`eager` is the formulation of the public implementations, `baddbmm` the strongest plain one (the
difference from the target comes out of the product), `compiled` the strongest one under
torch.compile. Each is checked against fp64 before its time is taken and again after. On a GPU the
record also holds times with L2 flushed and right behind the kernel that writes the activation,
bytes and FLOPs a second, and the share of a roof measured in the same run.
"""

from dataclasses import dataclass
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import stylekernels
from benchmarks.timing import Run, measure, parity, roof

__all__ = ["roof"]  # a fixture

DEVICES = ("cpu", *(("cuda",) if torch.cuda.is_available() else ()))
LAYERS = {"relu1_1": (64, 384, 512), "relu2_1": (128, 192, 256), "relu4_1": (512, 48, 64)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NAMES = ("eager", "baddbmm", "compiled", "stylekernels")


@dataclass
class Layer:
    """The operands of one tap: z, the gradient from above, the target and S."""

    z: Tensor
    above: Tensor
    target: Tensor

    @classmethod
    def make(cls, name: str, dtype: torch.dtype, device: str) -> "Layer":
        """Draw a layer; the same numbers every time."""
        channels, height, width = LAYERS[name]
        generator = torch.Generator().manual_seed(0)
        z, above = torch.randn((2, 1, channels, height, width), generator=generator)
        kind = torch.channels_last
        return cls(
            z.to(device, dtype, memory_format=kind),
            above.to(device, dtype, memory_format=kind),
            torch.eye(channels, device=device),
        )

    @property
    def positions(self) -> int:
        """M."""
        return prod(self.z.shape[2:])

    def oracle(self) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, S and the gradient of z, in fp64 throughout."""
        x = torch.relu(self.z.double()).flatten(2)[0]
        d = x @ x.mT / self.positions - self.target.double()
        s = 4.0 / self.positions * d
        above = self.above.double().flatten(2)[0]
        return d.square().sum(), s, (above + s @ x) * (x > 0)


def rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def eager_forward(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y = F.relu(z)
    x = y.flatten(2)
    d = torch.bmm(x, x.mT).div(x.shape[2]) - target
    return y, d.square().sum(), d * (4.0 / x.shape[2])


def eager_backward(above: Tensor, y: Tensor, s: Tensor) -> Tensor:
    return (above + torch.bmm(s.to(y.dtype), y.flatten(2)).view_as(y)) * (y > 0)


def strong_forward(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y = F.relu(z)
    x = rows(y)
    d = torch.baddbmm(target.to(z.dtype)[None], x.mT, x, beta=-1, alpha=1 / x.shape[1]).float()
    return y, d.square().sum(), d * (4.0 / x.shape[1])


def strong_backward(above: Tensor, y: Tensor, s: Tensor) -> Tensor:
    total = torch.baddbmm(rows(above), rows(y), s.to(y.dtype))
    total = torch.ops.aten.threshold_backward(total, rows(y), 0)
    return total.unflatten(1, y.shape[2:]).permute(0, 3, 1, 2)


def fused_forward(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y, losses, s = stylekernels.style_tap_forward(z, target, 1.0)
    return y, losses[0], s


def forward_of(name: str, layer: Layer) -> Run:
    functions = {
        "eager": eager_forward,
        "baddbmm": strong_forward,
        "compiled": torch.compile(strong_forward),
        "stylekernels": fused_forward,
    }
    return lambda: functions[name](layer.z, layer.target)


def backward_of(name: str, layer: Layer) -> Run:
    functions = {
        "eager": eager_backward,
        "baddbmm": strong_backward,
        "compiled": torch.compile(strong_backward),
        "stylekernels": stylekernels.style_tap_backward,
    }
    y = torch.relu(layer.z)
    _, s, _ = layer.oracle()
    s = s.float()[None]
    return lambda: (functions[name](layer.above, y, s),)


cases = [
    pytest.mark.parametrize("name", NAMES),
    pytest.mark.parametrize("dtype", DTYPES),
    pytest.mark.parametrize("layer", LAYERS),
    pytest.mark.parametrize("device", DEVICES),
]


def every_case(test):
    for mark in cases:
        test = mark(test)
    return test


@every_case
def test_tap_forward(benchmark, request, device, layer, dtype, name):
    benchmark.group = f"tap forward {device} {layer} {dtype}"
    operands = Layer.make(layer, DTYPES[dtype], device)
    run, oracle = forward_of(name, operands), operands.oracle()[:2]
    plain = forward_of("eager", operands)()[1:]
    moved = 2 * operands.z.nbytes
    with torch.no_grad():
        measure(
            benchmark, request, run, lambda: parity(run()[1:], plain, oracle), operands.z, moved
        )


@every_case
def test_tap_backward(benchmark, request, device, layer, dtype, name):
    benchmark.group = f"tap backward {device} {layer} {dtype}"
    operands = Layer.make(layer, DTYPES[dtype], device)
    run, oracle = backward_of(name, operands), operands.oracle()[2:]
    plain = backward_of("eager", operands)()
    moved = 3 * operands.z.nbytes
    with torch.no_grad():
        measure(benchmark, request, run, lambda: parity(run(), plain, oracle), operands.z, moved)


@pytest.mark.parametrize("name", ["eager", "compiled", "stylekernels"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", ["relu1_1"])
@pytest.mark.parametrize("device", DEVICES)
def test_pool(benchmark, request, device, layer, dtype, name):
    benchmark.group = f"pool {device} {layer} {dtype}"
    operands = Layer.make(layer, DTYPES[dtype], device)

    def plain(x: Tensor) -> Tensor:
        return F.avg_pool2d(F.relu(x), 2)

    functions = {
        "eager": plain,
        "compiled": torch.compile(plain),
        "stylekernels": stylekernels.relu_avg_pool2d,
    }
    oracle = (plain(operands.z.double()),)
    expected = (plain(operands.z),)

    def run() -> tuple[Tensor, ...]:
        return (functions[name](operands.z),)

    moved = operands.z.nbytes * 5 // 4
    with torch.no_grad():
        measure(benchmark, request, run, lambda: parity(run(), expected, oracle), operands.z, moved)

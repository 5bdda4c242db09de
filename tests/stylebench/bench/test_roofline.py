"""Roofs: measured once, by the better way, and of a network's convolutions alone."""

import weakref

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from stylebench.bench.measure.statistics import timing
from stylebench.bench.suites.base import Bench, Options
from stylebench.bench.workloads import roofline
from stylebench.bench.workloads.roofline import ConvStack, Roofline
from stylebench.engines.fused import convolution

CPU = torch.device("cpu")


def test_roofs_are_measured_once(brief):
    roofs = Roofline(CPU, brief, quick=True)
    assert roofs.copy() is roofs.copy()
    assert roofs.matmul("fp32").value > 0
    assert [roof.what for roof in roofs.known] == ["copy", "matmul"]
    assert roofs.matmul("fp32").value == 2 * 512**3 / roofs.matmul("fp32").timing.median


def test_the_faster_of_two_libraries_products_is_the_roof(monkeypatch, brief):
    a, b = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    products = [product() for product in roofline._products(a, b)]
    rows = products[1][0].flatten(1).T  # [1, 64, 2, 32] -> [64, 64]
    torch.testing.assert_close(rows, products[0], rtol=1e-4, atol=1e-4)
    seconds = iter([3.0, 2.0])
    monkeypatch.setattr(roofline, "measure", lambda *_: timing("perf_counter", [next(seconds)]))
    assert Roofline(CPU, brief, quick=True).matmul("fp32").value == 2 * 512**3 / 2.0


@pytest.fixture
def launched(monkeypatch):
    """The convolutions that a roofline launches, in order, by their channels."""
    log = []

    def make(weight, x):
        channels = weight.shape[0]
        return lambda x: log.append(channels), lambda gradient: log.append(f"{channels} back")

    monkeypatch.setattr(roofline, "_plain", make)
    return log


def chain():
    weights = Bench(Options(device="cpu")).weights
    return roofline._Chain(ConvStack(weights, "relu2_1"), (24, 32), "fp32", CPU, "plain")


def test_an_iterations_convolutions_go_forward_and_then_back(launched):
    candidate = chain().candidate()
    candidate.run(2)
    assert launched == [64, 64, 128, "128 back", "64 back", "64 back"] * 2
    assert not candidate.replays


class Biases(TorchDispatchMode):
    """Records the bias of every convolution within."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default:
            self.found.append(args[2])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["plain", "prepared"])
def test_on_a_gpu_no_convolution_of_the_roof_has_a_bias(monkeypatch, kind):
    """PyTorch adds it in a pass over the whole map, which is no work of a convolution's."""
    monkeypatch.setattr(
        convolution, "select_fastest", lambda algorithms, *_: next(iter(algorithms))
    )
    monkeypatch.setattr(convolution, "_sample", lambda *_: None)
    stack = ConvStack(Bench(Options(device="cpu")).weights, "relu2_1")
    with FakeTensorMode(allow_non_fake_inputs=True), Biases() as biases:
        one = roofline._Chain(stack, (24, 32), "fp16", torch.device("cuda"), kind)
        one.iterate()
    assert len(biases.found) >= 3  # and backward, where that is one
    assert not any(bias is not None for bias in biases.found)


def test_on_a_gpu_the_convolutions_are_replays_of_one_graph(launched, monkeypatch):
    class Graph:
        replays = 0

        def replay(self):
            self.replays += 1

    graph, captures = Graph(), []

    def captured(work, device):
        work()
        captures.append(device.type)
        return graph

    monkeypatch.setattr(roofline, "captured", captured)
    one = chain()
    one._device = torch.device("cuda")
    candidate = one.candidate()
    operand = weakref.ref(one._steps[0][1])
    del one
    assert len(launched) == 6  # one iteration, for the capture
    candidate.run(3)
    assert (graph.replays, captures, len(launched)) == (3, ["cuda"], 6)
    assert candidate.replays
    assert operand() is not None  # a graph does not keep what it reads

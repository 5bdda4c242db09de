"""cuDNN's graphs, by a stand-in for the package that computes them with PyTorch."""

import importlib.machinery
import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from stylebench.engines.fused import convolution, cudnn_graphs
from stylebench.engines.fused.choices import forget
from stylebench.engines.fused.conv_algorithms import exact_masked
from stylebench.engines.fused.conv_autotune import select_fastest
from stylebench.engines.fused.convolution import Convolution
from stylebench.engines.fused.cudnn_graphs import graph_forward, graph_masked_gradient
from stylekernels.ops.pointwise.cpu import mask_


class Node:
    """A tensor of a graph: how it is computed from the operands' values."""

    def __init__(self, compute):
        self.compute, self.dim, self.stride, self.is_output = compute, None, None, False

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self

    def set_output(self, value):
        self.is_output = value
        return self

    def set_data_type(self, kind):
        return self


class Graph:
    """cudnn.pygraph; ``fault`` is of the plans' making, by name of the method that raises."""

    fault: str | None = None
    plans = ("eng0_k1=2", "eng7", "eng9")
    wrong = "eng0_k1=2"  # this plan's results are
    built: list[int]

    def __init__(self, **settings):
        assert settings["handle"] == "handle"
        assert settings["compute_data_type"] == "FLOAT"
        self.built = []

    def __getattribute__(self, name):
        if name == Graph.fault:
            raise NotImplementedError(f"no {name}\nhere")
        return super().__getattribute__(name)

    def tensor(self, name, dim, stride, data_type):
        node = Node(lambda values: values[node])
        return node.set_dim(dim).set_stride(stride)

    def conv_fprop(self, image, weight, padding, stride, dilation):
        return Node(lambda v: F.conv2d(image.compute(v), weight.compute(v), padding=padding))

    def conv_dgrad(self, loss, filter, padding, stride, dilation):  # noqa: A002
        return Node(
            lambda v: F.conv_transpose2d(loss.compute(v), filter.compute(v), padding=padding)
        )

    def bias(self, input, bias):  # noqa: A002
        return Node(lambda v: input.compute(v) + bias.compute(v))

    def relu(self, input):  # noqa: A002
        return Node(lambda v: input.compute(v).relu())

    def relu_backward(self, loss, input):  # noqa: A002
        assert loss.dim == input.dim
        return Node(lambda v: torch.where(input.compute(v) > 0, loss.compute(v), 0))

    def validate(self):
        pass

    def build_operation_graph(self):
        pass

    def create_execution_plans(self, modes):
        assert modes == ["A"]

    def deselect_numeric_notes(self, notes):
        assert notes == ["NONDETERMINISTIC"]

    def get_execution_plan_count(self):
        return len(self.plans)

    def get_plan_name_at_index(self, index):
        return self.plans[index]

    def build_plan_at_index(self, index):
        self.built.append(index)

    def get_workspace_size_plan_at_index(self, index):
        return 16 * index

    def execute_plan_at_index(self, tensors, workspace, index, handle):
        assert index in self.built
        assert workspace.numel() >= 16 * index
        (output,) = (node for node in tensors if node.is_output)
        for node, value in tensors.items():
            assert list(value.shape) == node.dim
            strides = zip(value.shape, value.stride(), node.stride, strict=True)
            assert all(size == 1 or a == b for size, a, b in strides)
        result = output.compute(tensors)
        tensors[output].copy_(2 * result if self.plans[index] == self.wrong else result)


@pytest.fixture
def cudnn(monkeypatch):
    module = ModuleType("cudnn")
    module.__spec__ = importlib.machinery.ModuleSpec("cudnn", None)
    module.pygraph = Graph
    module.data_type = SimpleNamespace(HALF="HALF", BFLOAT16="BFLOAT16", FLOAT="FLOAT")
    module.heur_mode = SimpleNamespace(A="A")
    module.numerical_note = SimpleNamespace(NONDETERMINISTIC="NONDETERMINISTIC")
    module.streams = []
    module.set_stream = lambda handle, stream: module.streams.append((handle, stream))
    monkeypatch.setitem(sys.modules, "cudnn", module)
    monkeypatch.setattr(cudnn_graphs, "_handle", lambda device: "handle")
    monkeypatch.setattr(cudnn_graphs, "_stream", lambda device: 7)
    return module


@pytest.fixture
def operands():
    generator = torch.Generator().manual_seed(1)
    drawn = [(1, 8, 6, 5), (1, 16, 6, 5), (16, 8, 3, 3), (16,)]
    x, gradient, weight, bias = (torch.randn(shape, generator=generator) for shape in drawn)
    last = {"memory_format": torch.channels_last}
    return x.contiguous(**last), gradient.contiguous(**last), weight.contiguous(**last), bias


def never(*operands):
    raise AssertionError("the graph was to be run")


def test_every_plan_is_an_algorithm_by_its_name(cudnn, operands):
    x, gradient, weight, bias = operands
    forward = graph_forward(weight, bias).plans(never, x)
    masked = graph_masked_gradient(weight).plans(never, gradient, x)
    assert list(forward) == [f"cudnn graph conv+bias+relu, {name}" for name in Graph.plans]
    assert list(masked) == [f"cudnn graph dgrad+drelu, {name}" for name in Graph.plans]
    _, run, _ = forward.values()
    y = run(x)
    assert torch.allclose(y, F.conv2d(x, weight, bias, padding=1).relu(), atol=1e-5)
    assert y.is_contiguous(memory_format=torch.channels_last)
    _, run, _ = masked.values()
    exact = exact_masked(weight, x)(gradient)
    assert torch.allclose(run(gradient, x).double(), exact, atol=1e-5)
    assert set(cudnn.streams) == {("handle", 7)}


def test_a_wrong_plan_is_not_chosen_however_fast(cudnn, operands, monkeypatch, tmp_path):
    monkeypatch.setenv("STYLEBENCH_CACHE", str(tmp_path))
    forget()
    x, gradient, weight, _ = operands
    masked = graph_masked_gradient(weight).plans(never, gradient, x)
    plain = {"gradient, mask": lambda g, m: mask_(F.conv_transpose2d(g, weight, padding=1), m)}
    of_both = plain | masked
    of_one = {name: convolution._of_one(run, x) for name, run in of_both.items()}
    order = [of_one[f"cudnn graph dgrad+drelu, {name}"] for name in Graph.plans]

    def seconds(algorithm, _):
        return float(order.index(algorithm)) if algorithm in order else 9.0

    chosen = select_fastest(of_one, exact_masked(weight, x), gradient, seconds)
    assert chosen == "cudnn graph dgrad+drelu, eng7"
    forget()


def test_a_mask_that_nan_passes_is_no_mask(cudnn, operands, monkeypatch, tmp_path):
    """Of a gradient of NaN, 0 stays 0 where the ReLU was off: 0 times NaN would not."""
    monkeypatch.setenv("STYLEBENCH_CACHE", str(tmp_path))
    forget()
    x, gradient, weight, _ = operands
    of_one = {
        "plain": lambda g: mask_(F.conv_transpose2d(g, weight, padding=1), x),
        "times": lambda g: F.conv_transpose2d(g, weight, padding=1) * (x > 0),
        "hides": lambda g: mask_(F.conv_transpose2d(g, weight, padding=1), x).nan_to_num(0.0),
    }
    for quick in ("times", "hides"):
        some = {"plain": of_one["plain"], quick: of_one[quick]}
        chosen = select_fastest(some, exact_masked(weight, x), gradient, _last_is_fastest(some))
        assert chosen == "plain"
    forget()


def _last_is_fastest(algorithms):
    order = list(algorithms.values())
    return lambda run, _: -float(order.index(run))


FAULTS = [
    "tensor", "conv_fprop", "validate", "build_operation_graph", "create_execution_plans",
    "deselect_numeric_notes", "get_execution_plan_count", "get_plan_name_at_index",
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_graph_that_fails_is_left_out_with_one_line(cudnn, operands, monkeypatch, caplog, fault):
    x, _, weight, bias = operands
    monkeypatch.setattr(Graph, "fault", fault)
    with caplog.at_level(logging.INFO):
        assert graph_forward(weight, bias).plans(never, x) == {}
    (record,) = caplog.records
    assert f"no graph conv+bias+relu of [1, 8, 6, 5]: NotImplementedError: no {fault} here" in (
        record.getMessage()
    )


def test_a_plan_that_cannot_be_built_is_dropped_by_its_proof(cudnn, operands, monkeypatch):
    x, _, weight, bias = operands
    (run, *_) = graph_forward(weight, bias).plans(never, x).values()
    monkeypatch.setattr(Graph, "fault", "build_plan_at_index")
    with pytest.raises(NotImplementedError):
        run(x)


@pytest.mark.parametrize("fault", ["validate", "build_plan_at_index", "plans"])
def test_other_shapes_are_computed_otherwise_where_the_plan_fails(
    cudnn, operands, monkeypatch, fault
):
    x, _, weight, bias = operands
    plain = F.conv2d(x[..., :4], weight, bias, padding=1).relu()
    runs = list(graph_forward(weight, bias).plans(lambda x: "otherwise", x).values())
    assert torch.allclose(runs[1](x[..., :4]), plain, atol=1e-5)
    with monkeypatch.context() as patch:
        if fault == "plans":
            patch.setattr(Graph, "plans", ("another",))
        else:
            patch.setattr(Graph, "fault", fault)
        assert runs[1](x[..., :3]) == "otherwise"
    assert runs[1](x[..., :3]) == "otherwise"  # not built anew in a captured iteration


def test_without_the_package_and_in_fp64_there_is_none(operands, monkeypatch, cudnn):
    x, _, weight, bias = operands
    assert graph_forward(weight.double(), bias.double()).plans(never, x.double()) == {}
    monkeypatch.setattr(cudnn_graphs, "find_spec", lambda name: None)
    assert graph_forward(weight, bias).plans(never, x) == {}


def test_a_layer_on_a_gpu_has_them_among_its_algorithms(cudnn, monkeypatch):
    """Fake tensors have the device, the shapes and the layouts, and are not computed."""
    asked = []

    def last(known, exact, x):
        asked.append([name for name in known if name.startswith("cudnn graph")])
        return list(known)[-1]

    monkeypatch.setattr(convolution, "select_fastest", last)
    with FakeTensorMode():
        monkeypatch.setattr(
            convolution, "_sample", lambda channels, like, size: like.new_empty(1, channels, *size)
        )
        weight = torch.empty(64, 64, 3, 3, device="cuda", dtype=torch.float16)
        layer = Convolution(weight, weight.new_empty(64), (12, 10))
        assert [len(names) for names in asked] == [3, 0, 3]
        assert set(layer.chosen) == {"forward", "backward", "masked backward"}
        x = weight.new_empty(1, 64, 12, 10).contiguous(memory_format=torch.channels_last)
        y = layer.relu(x)
        assert (y.shape, y.device.type) == (x.shape, "cuda")
        assert layer.backward_masked(y, False, False, x).shape == x.shape
        first = Convolution(weight[:, :8], weight.new_empty(64), (12, 10), wanted=3)
        assert set(first.chosen) == {"forward", "backward"}
        assert first.chosen["backward"] == "stylekernels dgrad"
        assert first.backward(y).shape == (1, 3, 12, 10)
        for first.chosen["backward"] in ("stylekernels dgrad", "flipped kernels"):
            image = first.image_gradient(y, False, False, 0.5, torch.float32)
            assert (image.shape, image.dtype) == ((1, 3, 12, 10), torch.float32)
            assert image.is_contiguous()


def test_the_package_itself_takes_our_graphs(operands, monkeypatch):
    """Validation, which is as far as it goes without a GPU; where it is installed."""
    cudnn = pytest.importorskip("cudnn")
    validated = []

    def stop(graph):
        validated.append(graph)
        raise RuntimeError("the next step asks the device")

    monkeypatch.setattr(cudnn.pygraph, "build_operation_graph", stop)
    monkeypatch.setattr(cudnn_graphs, "_handle", lambda device: cudnn.Handle(1, 0, 0))
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x, gradient, weight, bias = (operand.to(dtype) for operand in operands)
        graph_forward(weight, bias).plans(never, x)
        graph_masked_gradient(weight).plans(never, gradient, x)
    assert len(validated) == 6

"""Kernels are launched on the device of their operands."""

import importlib
import pkgutil
from contextlib import contextmanager

import pytest
import torch

import stylekernels
from stylekernels import ops
from stylekernels.runtime import dispatch
from stylekernels.runtime.launch import Launch


def test_a_kernel_is_launched_on_the_device_of_its_operands(monkeypatch):
    current = [None]

    @contextmanager
    def device_of(tensor):
        current.append(tensor)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    seen = []
    kernel = {(1,): lambda **_: seen.append(current[-1])}
    x = torch.ones(2)
    Launch(kernel, (1,), {"count": 2, "x": x}, {}).run()
    assert seen[0] is x
    assert current == [None]


def test_a_kernel_without_a_tensor_is_refused():
    with pytest.raises(TypeError, match="no device to run on"):
        Launch({}, (1,), {"count": 2}, {}).run()


@pytest.mark.skipif(not dispatch.has_triton(), reason="Triton is not installed")
def test_no_constant_of_a_kernel_differs_from_itself():
    """Triton compares globals before every launch: with NaN the second one would be an error."""
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(ops.__path__, f"{ops.__name__}.")
        if ".triton_" in module.name
    ]
    constants = [
        (module.__name__, name, value.value)
        for module in modules
        for name, value in vars(module).items()
        if type(value).__name__ == "constexpr"
    ]
    assert len(constants) > 5
    assert [place for *place, value in constants if value != value] == []


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_second_gpu_runs_its_own_kernels():
    x = torch.randn(1, 8, 4, 4, device="cuda:1")
    b = torch.randn(8, device="cuda:1")
    expected = (x + b.view(1, -1, 1, 1)).relu()
    assert dispatch.uses_triton(x, b)
    stylekernels.bias_relu_(x, b)
    torch.testing.assert_close(x, expected)

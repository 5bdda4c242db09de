"""Where a kernel is launched."""

from contextlib import contextmanager

import pytest
import torch

from stylekernels import bias, dispatch
from stylekernels.device.launch import Launch


@pytest.mark.parametrize("nested", [False, True])
def test_a_kernel_is_launched_on_the_device_of_its_operands(monkeypatch, nested):
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
    Launch(kernel, (1,), {"count": 2, "x": (x, x) if nested else x}, {}).run()
    assert seen[0] is x
    assert current == [None]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_second_gpu_runs_its_own_kernels():
    x = torch.randn(1, 8, 4, 4, device="cuda:1")
    b = torch.randn(8, device="cuda:1")
    expected = (x + b.view(1, -1, 1, 1)).relu()
    assert dispatch.uses_triton(x, b)
    bias.bias_relu_(x, b)
    torch.testing.assert_close(x, expected)

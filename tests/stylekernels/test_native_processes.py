"""Native code in other processes: the parent's bits, whether they were spawned or forked."""

import multiprocessing
import warnings

import pytest
import torch

import stylekernels
from stylekernels.ops.conv.op import Winograd, Workspace, supports

pytestmark = pytest.mark.skipif(
    not supports(torch.empty(16, 16, 3, 3)), reason="no native code on this platform"
)


def convolved_and_pooled():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 32, 30, 26, generator=generator).contiguous(
        memory_format=torch.channels_last
    )
    weight = torch.randn(32, 32, 3, 3, generator=generator)
    with torch.no_grad():
        return stylekernels.relu_avg_pool2d(Winograd(weight, None, Workspace())(x)).numpy()


def compute(queue):
    torch._C._set_deterministic_algorithms(False)  # torch fills new memory on threads of its own
    queue.put(convolved_and_pooled())


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_another_process_computes_the_same_bits(method):
    """A forked one too, and without waiting for OpenMP's threads, which a fork does not copy."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this platform")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = convolved_and_pooled()  # OpenMP's threads have started
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        child = context.Process(target=compute, args=(queue,), daemon=True)
        with warnings.catch_warnings(action="ignore"):  # Python's own, of forks with threads
            child.start()
        try:
            result = queue.get(timeout=60)
        finally:
            child.kill()
            child.join()
    finally:
        torch.set_num_threads(threads)
    assert (result == expected).all()

"""The caller's state of torch changes no bit of a run, and is there again afterwards."""

import contextlib
import multiprocessing
import threading
import warnings

import numpy as np
import pytest
import torch

from stylebench.model.weights import load_weights, random_weights
from stylebench.transfer.api import stylize
from stylebench.transfer.torch_state import own_torch_state

QUICK = {
    "weights": "random", "size": 32, "iterations": 3, "device": "cpu", "content_layers": "relu2_2",
    "style_layers": ["relu1_1", "relu2_1"],
}  # fmt: skip


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "default_dtype": default_dtype,
    "default_device": default_device,
    "device_context": lambda: torch.device("meta"),
    "deterministic": deterministic,
}


def told():
    """Everything of torch's state that a run changes."""
    return (
        torch.is_autocast_enabled("cpu"),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.mark.parametrize("engine", ["reference", "fused"])
@pytest.mark.parametrize("state", STATES)
def test_the_callers_state_changes_no_bit_and_comes_back(photo, painting, state, engine):
    settings = QUICK | {"engine": engine}
    usual = np.asarray(stylize(photo, painting, **settings))
    with STATES[state]():
        before = told()
        image = stylize(photo, painting, **settings)
        assert told() == before
    assert before != told(), "the state was none"
    np.testing.assert_array_equal(np.asarray(image), usual)


@pytest.mark.parametrize("state", STATES)
def test_the_state_comes_back_after_an_error(state):
    with STATES[state]():
        before = told()
        with contextlib.suppress(KeyError), own_torch_state():
            raise KeyError
        assert told() == before


@pytest.mark.parametrize("state", ["default_dtype", "deterministic"])
def test_the_state_stays_until_the_last_of_several_threads_is_done(state):
    inside, first_done, seen = threading.Barrier(2, timeout=20), threading.Event(), []

    def first():
        with own_torch_state():
            inside.wait()
        first_done.set()

    def second():
        with own_torch_state():
            inside.wait()
            first_done.wait(20)
            seen.append((torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()))

    with STATES[state]():
        before = told()
        threads = [threading.Thread(target=target) for target in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert told() == before
    assert seen == [(torch.float32, False)]


@pytest.mark.parametrize("state", ["inference_mode", "default_dtype", "default_device"])
def test_weights_and_pictures_made_in_the_callers_state_are_the_same(photo, painting, state):
    array = np.asarray(photo)
    usual = np.asarray(stylize(photo, painting, **QUICK | {"engine": "reference"}))
    with STATES[state]():
        own = load_weights(random_weights())
        content = torch.from_numpy(array.copy()).permute(2, 0, 1)
    image = stylize(content, painting, **QUICK | {"engine": "reference", "weights": own})
    np.testing.assert_array_equal(np.asarray(image), usual)


def _stylize_in_child(photo, painting, queue):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = stylize(photo, painting, **QUICK)
    queue.put((np.asarray(image), torch.get_num_threads(), [str(w.message) for w in caught]))


def test_a_forked_process_computes_in_one_thread_and_says_so(photo, painting):
    """With more threads it would wait for OpenMP's, which a fork does not copy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        usual = np.asarray(stylize(photo, painting, **QUICK))
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        with warnings.catch_warnings(action="ignore"):  # Python's own, of forks with threads
            child = context.Process(target=_stylize_in_child, args=(photo, painting, queue))
            child.start()
        try:
            image, count, messages = queue.get(timeout=60)
        finally:
            child.kill()
            child.join()
    finally:
        torch.set_num_threads(threads)
    assert count == 1
    assert any("start method 'spawn'" in message for message in messages)
    assert np.abs(image.astype(int) - usual).max() <= 1


RUN = """
import sys
from PIL import Image
from stylebench import stylize
photo = Image.effect_noise((32, 32), 80)
stylize(photo, photo, weights="random", size=32, iterations=2, engine="fused", device="cpu")
print(*sorted({name.split(".")[1] for name in sys.modules if name.startswith("torch._")}))
"""


@pytest.mark.slow
def test_a_run_does_not_import_the_compiler(fresh_python):
    """It takes 0.9 s and 150 MB in every process."""
    assert not {"_dynamo", "_inductor"} & set(fresh_python(RUN).split())

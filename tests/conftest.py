"""Fixtures shared by all tests: a network's weights, and small pictures."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from stylebench.model.vgg import Weights
from stylebench.model.weights import random_weights
from stylebench.transfer.reuse import clear_cache


@pytest.fixture(scope="session")
def weights() -> Weights:
    return random_weights()


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep machine code and measurements of tests apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def drawn_once() -> Iterator[None]:
    """Draw ``weights="random"`` once a process: it takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stylebench.model.weights.random_weights", cache(random_weights))
        yield


@pytest.fixture(autouse=True)
def no_engine_kept() -> Iterator[None]:
    """Have every test build its own engines."""
    yield
    clear_cache()


@pytest.fixture(scope="session")
def weights64(weights: Weights) -> Weights:
    layers = {name: (w.double(), b.double()) for name, (w, b) in weights.layers.items()}
    return Weights(weights.name, layers, weights.preprocessing)


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """A 48 x 32 px gradient with an edge, RGB."""
    y, x = np.mgrid[0:32, 0:48]
    channels = [x * 5, y * 7, np.where(x > 20, 200, 40)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


@pytest.fixture(scope="session")
def painting() -> Image.Image:
    """A 40 x 40 px weave of noise, RGB."""
    values = np.random.default_rng(5).integers(0, 256, size=(40, 40, 3))
    values[::3] //= 2
    return Image.fromarray(values.astype(np.uint8))


@pytest.fixture
def features() -> torch.Tensor:
    """Random features [1, 4, 3, 5], fp64."""
    return torch.randn(1, 4, 3, 5, dtype=torch.float64, generator=torch.manual_seed(1))


@pytest.fixture(scope="session")
def fresh_python() -> Callable[..., str]:
    """Run a script in an interpreter that has imported nothing yet: its stdout."""

    def run(script: str, *arguments: str, **environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    return run

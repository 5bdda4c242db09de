"""The kernel tests again, on Triton's interpreter, in one Python of their own.

TRITON_INTERPRET must be set before Triton is imported. Where a GPU exists the same files run
natively instead, which proves more.
"""

import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent
FILES = (
    "addressing", "bias", "content", "contract", "dgrad", "gram", "image", "lbfgs_kernels",
    "losses", "pool", "slope", "spectral", "style", "tap", "tune", "tv",
)  # fmt: skip


def numbers(package):
    return tuple(int(part) for part in version(package).split(".")[:2])


@cache
def passed():
    """Number of tests that passed, by file; one Python for all of them."""
    if numbers("triton") < (3, 7) and numbers("numpy") >= (2, 4):
        pytest.skip("Triton 3.6's interpreter cannot loop to a run-time bound under NumPy 2.4")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA"]
    finished = subprocess.run(
        [*command, *(str(FOLDER / f"test_{name}.py") for name in FILES)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    names = re.findall(r"^PASSED \S*test_(\w+)\.py::", finished.stdout, re.MULTILINE)
    return {name: names.count(name) for name in names}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="this is the interpreter's Python")
@pytest.mark.skipif(torch.cuda.is_available(), reason="the same files run natively here")
@pytest.mark.parametrize("name", FILES)
def test_kernels_pass_the_same_tests_in_the_interpreter(name):
    assert passed().get(name, 0) > 0

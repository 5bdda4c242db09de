"""Kernels compiled for seven architectures on a machine that has none of them.

A few kernels an architecture; `python -m stylekernels.aot` does all of them.
"""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from stylekernels.tuning.aot import GPUS, Compiled

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="Triton is not installed"
    ),
]
MATRIX_CORES = {90: "wgmma.mma_async", 100: "tcgen05.mma", 942: "v_mfma"}
CASES = (
    "style_loss bfloat16 channels-last C=64",
    "style_loss float32 channels-last C=128",
    "tap_backward float16 contiguous C=512",
    "pooling bfloat16 channels-last C=64",
    "optimizer float32",
)


def compile_ahead(folder, *arguments):
    report = folder / "aot.json"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "stylekernels.aot", "--json", str(report), *arguments]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert report.exists(), finished.stdout + finished.stderr
    return finished, [Compiled(**row) for row in json.loads(report.read_text())]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    only = [word for case in CASES for word in ("--only", case)]
    finished, rows = compile_ahead(tmp_path_factory.mktemp("aot"), "--jobs", "2", *only)
    assert finished.returncode == 0, finished.stdout
    return rows


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: f"arch_{gpu.arch}")
def test_aot_kernels_fit_spill_nothing_and_use_the_matrix_cores(gpu, table):
    rows = [row for row in table if row.arch == gpu.arch]
    assert {row.kernel for row in rows} == {
        "gram_fwd_kernel",
        "gram_finish_kernel",
        "tap_bwd_kernel",
        "relu_pool_fwd_kernel",
        "relu_pool_bwd_kernel",
        "lbfgs_dots_kernel",
        "lbfgs_recursion_kernel",
        "lbfgs_apply_kernel",
    }
    for row in rows:
        assert row.fault == ""
        assert 0 < row.registers <= (512 if gpu.arch == 942 else 255)
        products = row.kernel in {"gram_fwd_kernel", "tap_bwd_kernel"}
        if products and "float32" not in row.case:
            assert row.matrix == MATRIX_CORES.get(gpu.arch, "mma.sync"), row


def test_aot_names_a_spill_and_a_block_that_does_not_fit():
    """The guard bites: what the table above must not show."""
    row = Compiled(90, "case", "kernel", 255, 300_000, 227 << 10, 16, "", 0)
    assert row.fault == "spills 16 bytes, 300000 bytes of shared memory, 232448 are there"


def test_aot_refuses_an_architecture_it_does_not_know(tmp_path):
    command = [sys.executable, "-m", "stylekernels.aot", "--arch", "1"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert "[80, 86, 89, 90, 100, 120, 942]" in finished.stderr

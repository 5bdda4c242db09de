"""Kernels compiled for seven architectures on a machine that has none of them.

A few kernels an architecture; `python -m stylekernels.aot` does all of them.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stylekernels.tuning.aot import GPUS, Compiled, built, compiling_for, instructions

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
    "uneven_tap float16 contiguous C=256",
    "dgrad float16 channels-last",
    "dgrad float32 channels-last",
    "spectrum",
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
    counts = [f"{'gfx' if gpu.arch == 942 else 'sm_'}{gpu.arch}: " for gpu in GPUS]
    assert [line for line in finished.stdout.splitlines() if line.startswith(tuple(counts))] == [
        f"{start}{sum(row.arch == gpu.arch for row in rows)} kernels, 0 with faults"
        for gpu, start in zip(GPUS, counts, strict=True)
    ]
    return rows


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: f"arch_{gpu.arch}")
def test_aot_kernels_fit_spill_nothing_and_use_the_matrix_cores(gpu, table):
    rows = [row for row in table if row.arch == gpu.arch]
    resident = set() if gpu.arch == 942 else {"tap_bwd_resident_kernel"}  # nothing stays on AMD's
    assert {row.kernel for row in rows} == resident | {
        "gram_fwd_kernel",
        "gram_finish_kernel",
        "tap_bwd_kernel",
        "dgrad_kernel",
        "relu_pool_fwd_kernel",
        "relu_pool_bwd_kernel",
        "lbfgs_dots_kernel",
        "lbfgs_recursion_kernel",
        "lbfgs_apply_kernel",
        "scale_spectrum_kernel",
    }
    for row in rows:
        assert row.fault == ""
        assert 0 < row.registers <= (512 if gpu.arch == 942 else 255)
        products = row.kernel.startswith(("gram_fwd", "tap_bwd", "dgrad"))
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


# the instruction of a product of fp16, by architecture
PRODUCTS = {80: "HMMA.16816.F32", 90: "HGMMA", 100: "UTCHMMA", 120: "HMMA.16816.F32"}


@pytest.fixture(params=PRODUCTS, ids=lambda arch: f"arch_{arch}")
def sass(request):
    """Returns the instructions of a case's launch on one architecture, and its product's."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("Triton interprets here and compiles nothing")
    import triton

    from stylekernels.tuning import workload

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton ships no cuobjdump")
    gpu = next(gpu for gpu in GPUS if gpu.arch == request.param)

    def read(row, channels, size, number=0):
        device = torch.device("meta")
        case = workload.Case(torch.float16, channels, size, channels_last=True, device=device)
        with compiling_for(gpu):
            launch = getattr(workload, row)(case)[number]
            counts = instructions(built(launch).asm["cubin"])
        return counts, sum(n for name, n in counts.items() if name.startswith(PRODUCTS[gpu.arch]))

    return read


def test_the_gradient_of_an_image_behind_its_tap_streams_both_maps(sass):
    """Each is read once, by asynchronous copies of 16 bytes; the tap is a second product."""
    counts, products = sass("dgrad", 0, 512)
    tapped, more = sass("dgrad", 0, 512, 1)
    assert 0 < products < more
    assert count(counts, "LDGSTS", ".128") >= 8
    assert count(tapped, "LDGSTS", ".128") >= 16


def count(counts, start, end):
    return sum(n for name, n in counts.items() if name.startswith(start) and name.endswith(end))


# a tap's 128 x 128 elements of S are loaded once, into registers, by 256 threads
@pytest.mark.parametrize(("row", "loads"), [("style_loss", 0), ("tap_backward", 128 * 128 // 2048)])
def test_fp16_features_stream_to_the_tensor_cores_by_16_bytes(row, loads, sass):
    """Asynchronous copies, products of fp16 and not of TF32, results of 16 bytes a thread."""
    counts, products = sass(row, 128, 256)
    assert products > 0
    assert count(counts, "LDG.", ".128") == loads
    assert not any("TF32" in name for name in counts)
    assert count(counts, "LDGSTS", ".128") >= 8
    assert count(counts, "STG", ".128") > 0
    assert count(counts, "STG", (".U8", ".U16")) == 0


def test_a_gradient_of_many_channels_is_as_wide(sass):
    counts, products = sass("tap_backward", 512, 64)
    assert products > 0
    assert count(counts, "LDGSTS", ".128") >= 8
    assert count(counts, "LDG", ".128") > 0  # the gradient from above, ahead of the products
    assert count(counts, "STG", ".128") > 0
    assert count(counts, "STG", (".U8", ".U16")) == 0

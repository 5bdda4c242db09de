"""Precisions by name, torch's switches within them, and the devices that have them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
import torch

from stylebench.engines import ENGINES
from stylebench.model.precision import PRECISIONS, arithmetic
from stylebench.transfer.device import choose_engine, choose_precision
from stylebench.transfer.settings import Settings

CPU, GPU, APPLE = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
SWITCHES = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,
    torch.backends.mkldnn.matmul,
    torch.backends.mkldnn.conv,
)


def read():
    return [switch.fp32_precision for switch in SWITCHES]


@pytest.mark.parametrize("name", PRECISIONS)
def test_only_tf32_allows_tf32_and_only_in_cuda_convolutions(name):
    before = read()
    with arithmetic(PRECISIONS[name]):
        convolutions = "tf32" if name == "tf32" else "ieee"
        assert read() == ["ieee", convolutions, "ieee", "ieee"]
    assert read() == before


def test_switches_are_restored_when_the_work_fails():
    before = read()
    with pytest.raises(RuntimeError, match="stop"), arithmetic(PRECISIONS["tf32"]):
        raise RuntimeError("stop")
    assert read() == before


@pytest.fixture
def _products_in_bf16():
    """A caller's own choice, as of ``torch.set_float32_matmul_precision("medium")``."""
    before, SWITCHES[2].fp32_precision = SWITCHES[2].fp32_precision, "bf16"
    yield
    SWITCHES[2].fp32_precision = before


@pytest.mark.usefixtures("_products_in_bf16")
@pytest.mark.parametrize("other", ["fp32", "tf32"])
def test_blocks_of_two_threads_leave_each_others_switches(other):
    before, entered, left = read(), Event(), Event()

    def overlap():
        with arithmetic(PRECISIONS["fp32"]):
            entered.set()
            assert left.wait(60)
            return read()

    with ThreadPoolExecutor(1) as pool:
        with arithmetic(PRECISIONS[other]):
            later = pool.submit(overlap)
            assert entered.wait(60)
            assert read() == ["ieee"] * 4
        left.set()
        assert later.result() == ["ieee"] * 4
    assert read() == before


def test_a_block_within_another_is_its_own():
    with arithmetic(PRECISIONS["fp32"]):
        with arithmetic(PRECISIONS["tf32"]):
            assert read()[1] == "tf32"
        assert read()[1] == "ieee"


@pytest.mark.parametrize("name", PRECISIONS)
def test_images_and_losses_are_never_narrower_than_fp32(name):
    assert PRECISIONS[name].wide == (torch.float64 if name == "fp64" else torch.float32)


def on(monkeypatch, capability=None, **cpu):
    """A machine with these instructions, and a GPU of that compute capability."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)


@pytest.mark.parametrize("engine", ["fused", "compiled", "eager"])
def test_auto_is_what_the_device_is_fast_in(monkeypatch, engine):
    on(monkeypatch, (9, 0), avx512_bf16=True, amx_bf16=True)
    assert choose_precision(Settings(), engine, GPU) == "fp16"
    assert choose_precision(Settings(), engine, CPU) == "bf16"
    on(monkeypatch, (7, 0), amx_bf16=False)
    assert choose_precision(Settings(), engine, GPU) == "fp16"
    assert choose_precision(Settings(), engine, CPU) == "fp32"
    on(monkeypatch, (6, 1))
    assert choose_precision(Settings(), engine, GPU) == "fp32"


def test_a_generator_that_is_closed_late_ends_its_own_block():
    def left_open():
        with arithmetic(PRECISIONS["tf32"]):
            yield

    before = torch.backends.cudnn.conv.fp32_precision
    opened = left_open()
    next(opened)
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    with arithmetic(PRECISIONS["fp32"]):
        opened.close()
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == before


@pytest.mark.parametrize(
    ("engine", "native", "precision"),
    [("fused", True, "fp32"), ("fused", False, "bf16"), ("eager", True, "bf16")],
)
def test_bf16_without_amx_is_slower_than_winograd(monkeypatch, engine, native, precision):
    on(monkeypatch, avx512_bf16=True)
    monkeypatch.setattr("stylebench.transfer.device.has_native_code", lambda: native)
    assert choose_precision(Settings(), engine, CPU) == precision


def test_the_reference_stays_wide(monkeypatch):
    on(monkeypatch, (9, 0))
    assert choose_precision(Settings(), "reference", GPU) == "fp32"
    with pytest.raises(ValueError, match=r"'reference' does not compute in tf32: .* fp32, fp64"):
        choose_precision(Settings(precision="tf32"), "reference", GPU)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "reference"])
def test_tf32_is_refused_where_there_is_none(monkeypatch, engine):
    """Also on CPUs with AMX, for which torch calls something else tf32."""
    settings = Settings(precision="tf32")
    on(monkeypatch, (7, 5), amx_bf16=True)
    with pytest.raises(ValueError, match=r"tf32 needs a CUDA GPU .* 'cpu': expected fp32"):
        choose_precision(settings, engine, CPU)
    with pytest.raises(ValueError, match=r"compute capability 8\.0"):
        choose_precision(settings, engine, GPU)
    on(monkeypatch, (8, 0))
    assert choose_precision(settings, engine, GPU) == "tf32"


def test_apples_gpus_get_the_plain_path_in_fp32():
    settings = Settings(device="mps")
    assert choose_engine(settings, APPLE) == "reference"
    assert choose_precision(settings, "reference", APPLE) == "fp32"
    assert choose_precision(settings, "fused", APPLE) == "fp32"
    assert choose_engine(replace(settings, engine="fused"), APPLE) == "fused"


@pytest.mark.parametrize("engine", ENGINES)
def test_fp64_is_refused_where_there_is_none(engine):
    settings = Settings(precision="fp64")
    with pytest.raises(ValueError, match="fp64 is not to be had on 'mps': expected fp32"):
        choose_precision(settings, engine, APPLE)
    assert choose_precision(settings, engine, CPU) == "fp64"

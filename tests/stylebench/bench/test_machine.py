"""What a machine tells about itself, and that nothing it does not tell is an error."""

import sys
from types import SimpleNamespace

import pytest
import torch

from stylebench.bench.machine import nvml
from stylebench.bench.machine import probe as machine
from stylebench.bench.machine.provenance import code, software, sources_hash
from stylekernels.native import compile as native

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def fresh():
    """NVML is asked for anew, before and after."""
    for cached in (nvml._library, nvml._handle, machine._cpu):
        cached.cache_clear()
    yield
    for cached in (nvml._library, nvml._handle, machine._cpu):
        cached.cache_clear()


def test_this_machine_is_described():
    found = machine.machine(CPU)
    assert found.device == "cpu"
    assert found.cores >= 1
    assert found.memory_bytes > 2**28
    assert found.name.startswith(found.cpu)
    assert found.name.endswith(f", {found.cores} cores")
    assert found.gpu is None
    after = machine.finished(found, CPU)
    assert after.before == found.before


@pytest.mark.parametrize(
    ("name", "slug"),
    [("NVIDIA H200", "nvidia-h200"), ("AMD EPYC, 2 cores", "amd-epyc-2-cores"), ("?", "unknown")],
)
def test_slugs_are_folder_names(name, slug):
    assert machine.slug(name) == slug


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["avx2", "avx512f", "avx512_bf16", "amx_bf16"], "AMD EPYC, AMX, "),
        (["avx2", "avx512f", "avx512_bf16"], "AMD EPYC, AVX-512 with bf16, "),
        (["avx2", "avx512f"], "AMD EPYC, AVX-512, "),
        (["avx2"], "AMD EPYC, AVX2, "),
        ([], "AMD EPYC, "),
    ],
)
def test_processors_of_one_name_are_told_apart_by_their_vectors(monkeypatch, flags, name):
    monkeypatch.setattr(machine, "_cpu", lambda: {"brand_raw": "AMD EPYC", "flags": flags})
    monkeypatch.setattr(machine, "has_native_code", lambda: False)
    found = machine.machine(CPU)
    assert found.name == f"{name}{found.cores} cores"
    assert found.slug == machine.slug(found.name)


@pytest.mark.parametrize("design", ["znver4", "znver5"])
def test_processors_of_one_name_are_told_apart_by_their_design(monkeypatch, design):
    flags = ["avx2", "avx512f", "avx512_bf16"]
    monkeypatch.setattr(machine, "_cpu", lambda: {"brand_raw": "AMD EPYC", "flags": flags})
    monkeypatch.setattr(native, "host", lambda: (design, ""))
    found = machine.machine(CPU)
    assert found.name == f"AMD EPYC {design}, AVX-512 with bf16, {found.cores} cores"


def test_marketing_is_taken_off_a_processors_name(monkeypatch):
    brand = "Intel(R) Xeon(R) Platinum 8480C CPU @ 2.00GHz"
    monkeypatch.setattr(machine, "_cpu", lambda: {"brand_raw": brand})
    assert machine._cpu_name() == "Intel Xeon Platinum 8480C"


@pytest.mark.parametrize("module", ["psutil", "cpuinfo", "pynvml"])
def test_a_missing_package_is_no_error(monkeypatch, fresh, module):
    monkeypatch.setitem(sys.modules, module, None)
    found = machine.machine(CPU)
    assert found.name
    assert machine.state(GPU).throttle == []


def broken(*_):
    raise RuntimeError("NVML: the driver is having a bad day")


def test_a_broken_driver_is_no_error(monkeypatch, fresh):
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=broken))
    assert nvml.gpu_state(GPU).clock_mhz is None
    assert nvml.power_limit(GPU) is None
    assert nvml.driver_version() is None


def test_a_gpu_that_knows_some_answers_gives_those(monkeypatch, fresh):
    fake = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetClockInfo=lambda gpu, which: {"sm": 1980, "mem": 3201}[which],
        NVML_CLOCK_SM="sm",
        NVML_CLOCK_MEM="mem",
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetTemperature=broken,
        nvmlDeviceGetPowerUsage=lambda gpu: 345_000,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda gpu: 0x4 | 0x1,
        nvmlClocksThrottleReasonSwPowerCap=0x4,
        nvmlClocksThrottleReasonHwSlowdown=0x8,
        nvmlSystemGetDriverVersion=lambda: b"580.1",
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc")
    )
    found = nvml.gpu_state(GPU)
    assert (found.clock_mhz, found.memory_clock_mhz, found.power_w) == (1980, 3201, 345.0)
    assert found.temperature_c is None
    assert found.throttle == ["SwPowerCap"]  # that it idles is no throttling
    assert nvml.driver_version() == "580.1"


def test_software_and_code_are_named():
    versions = software()
    assert versions.torch == torch.__version__
    found = code()
    assert len(found.sha256) == 64
    assert found.commit is None or len(found.commit) == 40


def test_sources_outside_their_own_repository_have_no_commit(monkeypatch, tmp_path):
    package = tmp_path / "site" / "stylebench"
    package.mkdir(parents=True)
    monkeypatch.setattr("stylebench.bench.machine.provenance.PACKAGES", (package,))
    assert code().commit is None
    assert code().dirty is None


def test_the_hash_of_the_sources_depends_on_names_and_contents(tmp_path):
    def hashed(**files):
        package = tmp_path / str(len(list(tmp_path.iterdir()))) / "package"
        package.mkdir(parents=True)
        for name, text in files.items():
            (package / f"{name}.py").write_text(text)
        return sources_hash([package])

    assert hashed(a="1", b="2") == hashed(b="2", a="1")
    assert hashed(a="1") != hashed(a="2")
    assert hashed(a="1") != hashed(b="1")

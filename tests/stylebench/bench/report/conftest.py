"""A folder of invented records: two machines, every suite, one broken file, failed cases."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylebench.bench.records.record import (
    Case,
    Code,
    Machine,
    Parity,
    Point,
    Record,
    RecordedCheck,
    Roof,
    Setup,
    Software,
    State,
    Timing,
)
from stylebench.bench.records.store import file_name, write_record
from stylebench.bench.report.page import write_report

from .browsing import PHONE, opened

HOSTILE = "<script>window.hacked = true</script><img src=x onerror='window.hacked=true'>"

CPU = Machine(
    "Example CPU, 2 cores", "example-cpu", "cpu", "Example CPU", 2, 16 * 2**30,
    ["avx512_bf16"], before=State(clock_mhz=3100, load=0.04), after=State(clock_mhz=3080),
)  # fmt: skip
GPU = Machine(
    "Example GPU", "example-gpu", "cuda", "Example CPU", 16, 128 * 2**30, gpu="Example GPU",
    gpu_memory_bytes=80 * 10**9, multiprocessors=100, capability="9.0", power_limit_w=500,
    before=State(1900, 2600, 41, 92, None, []), after=State(1850, 2600, 63, 480, None, ["power"]),
)  # fmt: skip

#: Engine, precision -> how many times the reference's rate, and its memory's share.
ENGINES = {
    ("reference", "fp32"): (1.0, 1.0),
    ("plain", "fp32"): (1.25, 0.9),
    ("compiled", "fp32"): (1.7, 0.7),
    ("compiled", "bf16"): (2.6, 0.5),
    ("fused", "fp32"): (2.2, 0.4),
    ("fused", "bf16"): (4.31, 0.28),
}
COMMON = {"preset": "gatys-pytorch", "optimizer": "lbfgs", "history": 100, "weights": "original"}
PASSED = Parity("reference fp64", [RecordedCheck("loss", 2.1e-6, 1e-4, True),
                                   RecordedCheck("gradient", 8.4e-3, 1.2e-2, True)])  # fmt: skip
FAILED = Parity("reference fp64", [RecordedCheck("gradient", 3.4e-2, 1.2e-2, False)])


def timing(seconds, seed=0):
    samples = seconds * (1 + 0.01 * np.random.default_rng(seed).standard_normal(20))
    q1, median, q3 = np.quantile(samples, [0.25, 0.5, 0.75])
    return Timing("perf_counter", samples.tolist(), [3], median, q1, q3, 0.004, 4, 8)


def record(suite, machine, cases, started="2026-03-14T10:20:30Z", **changes):
    base = Record(
        suite, started, 412.5, False, True,
        f"stylebench bench {suite} --output results", machine,
        Software("Linux 6.1", "3.11.2", "2.15.0", "0.1.0", "3.6.0"),
        Code("0123456789abcdef0123456789abcdef01234567", False, "ab" * 32),
        [Roof("copy", None, None, None, 2.1e10, "B/s"),
         Roof("matmul", "bf16", None, None, 1.6e12, "FLOP/s"),
         Roof("convolutions", "bf16", 512, 384, 0.31, "s")],
        cases,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def rate_of(machine, width, height):
    """The reference's, it/s."""
    return (90 if machine is GPU else 0.8) * (512 * 384 / (width * height)) ** 0.95


def iterations(machine, sizes):
    cases = []
    for width, height in sizes:
        for (engine, precision), (faster, memory) in ENGINES.items():
            seconds = 1 / (faster * rate_of(machine, width, height))
            parts = {"convolutions": 0.7, "taps": 0.16, "optimiser": 0.09, "other": 0.05}
            cases.append(
                Case(
                    f"{engine} {precision} {width}x{height}",
                    {"engine": engine, "precision": precision, "width": width, "height": height,
                     **COMMON},
                    parity=PASSED, timing=timing(seconds), setup=Setup(1.2, 9.5, None),
                    peak_bytes=int(memory * (4e8 + 6e3 * width * height)),
                    roof_share=min(0.93, 0.2 * faster),
                    parts={name: share * seconds for name, share in parts.items()},
                )
            )  # fmt: skip
    return cases


def kernels():
    """With the parameters that the suite gives them, at two sizes."""
    channels = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256}
    shares = {"eager": 0.22, "baddbmm": 0.41, "compiled": 0.52, "stylekernels": 0.84}
    cases = []
    for kernel, (width, height), (depth, layer), (implementation, share) in itertools.product(
        ("tap forward", "tap backward", "pool"),
        ((512, 384), (1024, 768)),
        enumerate(channels),
        shares.items(),
    ):
        positions = width * height // 4**depth
        cases.append(
            Case(
                f"{kernel} {layer} bf16 {width}x{height} {implementation}",
                {"weights": "original", "threads": 2, "kernel": kernel, "layer": layer,
                 "precision": "bf16", "width": width, "height": height,
                 "implementation": implementation},
                parity=PASSED, timing=timing(1e-4 * width / 512 / share),
                roof_share=share * 0.9**depth,
                bytes=2.0 * channels[layer] * positions,
                flops=2.0 * channels[layer] ** 2 * positions,
            )
        )  # fmt: skip
    return cases


def losses(machine):
    cases = []
    for (engine, precision), (faster, _) in ENGINES.items():
        step = 1 / (faster * rate_of(machine, 512, 384))
        curve = [Point(i * step, i, 40 + 4e4 * math.exp(-(i**0.5) / 2.2)) for i in range(0, 301, 4)]
        marks = (100, 200, 300)
        values = {f"seconds_to_{mark}": mark * step for mark in marks}
        values["seconds_to_300_plus_0.5_percent"] = 280 * step
        values |= {f"target_{mark}": 40 + 4e4 * math.exp(-(mark**0.5) / 2.2) for mark in marks}
        parameters = {"engine": engine, "precision": precision, "scales": None, **COMMON}
        cases.append(Case(f"{engine} {precision}", parameters, parity=PASSED, curve=curve,
                          values=values))  # fmt: skip
    return cases


def draw(folder: Path):
    """Pictures like those of a parity suite; return their names."""
    y, x = np.mgrid[0:192, 0:256]
    base = np.stack([x, 255 - y, 128 + 80 * np.sin(x / 9 + y / 17)], axis=-1)
    noise = np.random.default_rng(1).normal(0, 2, base.shape)
    pictures = {
        "reference": base,
        "output": base + noise,
        "content": base[::-1],
        "style": noise * 40,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in pictures.items():
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    return {name: f"{folder.name}/{name}.png" for name in pictures}


def parities(pictures):
    cases = [
        Case(
            f"{engine} {precision}",
            {"engine": engine, "precision": precision, "width": 512, "height": 384, **COMMON},
            parity=PASSED, pictures=pictures, values={"psnr": 41.2},
        )
        for engine, precision in (("compiled", "bf16"), ("fused", "fp32"))
    ]  # fmt: skip
    failed = Case("fused bf16", {"engine": "fused", "precision": "bf16"}, "parity failed",
                  HOSTILE, FAILED)  # fmt: skip
    large = Case(HOSTILE, {"engine": "fused", "precision": HOSTILE}, "out of memory", "wants 96 GB")
    return [*cases, failed, large]


def runs():
    values = {"cold_seconds": 31.0, "warm_seconds": 9.2, "first_iteration_seconds": 4.4}
    return [
        Case(f"{engine} {precision}", {"engine": engine, "precision": precision, **COMMON},
             parity=PASSED, timing=timing(9.2), values=values)
        for engine, precision in (("reference", "fp32"), ("fused", "bf16"))
    ]  # fmt: skip


def fill(folder: Path):
    """Write the records; return the folder."""
    sizes = [(256, 192), (512, 384), (1024, 768), (2048, 1536)]
    for machine in (CPU, GPU):
        pictures = draw(folder / machine.slug / "pictures")
        for each in (
            record("iteration", machine, iterations(machine, sizes[:3])),
            record("sizes", machine, iterations(machine, sizes)),
            record("kernels", machine, kernels()),
            record("time-to-loss", machine, losses(machine)),
            record("parity", machine, parities(pictures)),
            record("stylize", machine, runs()),
        ):
            write_record(folder / file_name(each), each)
    old = Case(
        "fused fp32 4096x3072", {"engine": "fused", "precision": "fp32"}, "failed", "an old run"
    )
    older = record("iteration", CPU, [old], started="2025-01-02T03:04:05Z")
    write_record(folder / file_name(older), older)
    (folder / "broken.json").write_text(json.dumps({"version": 1, "suite": HOSTILE}))
    return folder


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("records") / "results")


@pytest.fixture(scope="session")
def site(results, tmp_path_factory):
    """The page of these records, a file."""
    pytest.importorskip("plotly", reason="the extra 'report' is not installed")
    return write_report([results], tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def text(site):
    return site.read_text("utf-8")


@pytest.fixture(scope="session")
def desktop(browser, site):
    """The page in a browser; tests share it, so each says what it needs of theme and folds."""
    with opened(browser, site.as_uri()) as page:
        yield page


@pytest.fixture(scope="session")
def phone(browser, site):
    with opened(browser, site.as_uri(), size=PHONE) as page:
        yield page

"""The extra ``bench``: what works without it, and what says that it is missing."""

import subprocess
import sys

import pytest
import torch

from stylebench.bench.machine import probe
from stylebench.bench.suites import console, sizes, suite
from stylebench.bench.suites.base import Bench, Options

EXTRA = ("psutil", "cpuinfo", "pynvml")
INSTALL = r"pip install 'stylebench\[bench\]'"


SMALL = "--size 32 --iterations 2 --weights random --device cpu"


@pytest.mark.parametrize(
    ("commands", "written"),
    [
        pytest.param(
            ["presets", "doctor", f"stylize a.png b.png --quiet {SMALL}"], "out.png",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            [f"compare a.png b.png --engines eager {SMALL}"], "out/compare/compare.json",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_all_but_benchmarks_works_without_the_extra(tmp_path, photo, painting, commands, written):
    photo.save(tmp_path / "a.png")
    painting.save(tmp_path / "b.png")
    script = f"""
import sys
sys.modules |= dict.fromkeys({EXTRA})
import stylebench, stylebench.transfer.api, stylebench.bench.suites.console
from stylebench.bench.suites import SUITES, suite
from stylebench.cli.app import app
for name in SUITES:
    suite(name)
for command in {commands}:
    app(command.split(), standalone_mode=False)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    assert (tmp_path / written).is_file()


@pytest.fixture
def blocked(monkeypatch):
    """Blocks packages, as if they were not installed."""
    probe._cpu.cache_clear()

    def block(*names):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    yield block
    probe._cpu.cache_clear()


@pytest.mark.parametrize(
    ("missing", "device", "told"),
    [
        (("psutil",), "cpu", "no record of memory, load and clock, and which samples other"),
        (("cpuinfo",), "cpu", "no record of the processor's name and instructions: pip install"),
        (("pynvml",), "cuda", "no record of the GPU's clocks, temperature, power and throttling"),
    ],
)
def test_facts_that_a_record_will_lack_are_told_in_one_line(blocked, missing, device, told):
    blocked(*missing)
    line = probe.missing_facts(torch.device(device))
    assert told in line
    assert line.endswith(probe.INSTALL)
    assert "\n" not in line


def test_with_the_extra_no_fact_is_missing_and_on_a_cpu_nvml_tells_none(blocked):
    blocked("pynvml")
    assert probe.missing_facts(torch.device("cpu")) is None


def test_a_suite_goes_without_the_extra_and_says_so_once(blocked, case, monkeypatch, capsys):
    from .conftest import single

    class Fake:
        name = "smoke"

        def jobs(self, bench):
            yield single("a", {}, lambda: case("a"))

    blocked(*EXTRA)
    monkeypatch.setattr(console, "suite", lambda _: Fake())
    with pytest.warns(UserWarning, match=INSTALL) as told:
        assert console.run_suite_in_console("smoke", Options(device="cpu"), None, False) == 0
    assert len(told) == 1


def test_sizes_cannot_do_without_the_free_memory_of_a_cpu(blocked):
    blocked("psutil")
    with pytest.raises(ValueError, match=f"'sizes' needs psutil .*{INSTALL}"):
        next(suite("sizes").jobs(Bench(Options(quick=True, device="cpu"))))


def test_a_size_that_will_not_fit_is_refused_by_what_smaller_ones_took(smallest, monkeypatch):
    monkeypatch.setitem(sizes._QUICK_LONGEST, "cpu", (32, 64))
    monkeypatch.setattr(sizes.Bench, "sizes", lambda bench, *own: list(own))
    monkeypatch.setattr(sizes, "free_memory", lambda _: 2**20)
    small, large = smallest("sizes", size=None, pattern="fused*history 10").cases
    assert small.status == "ok"
    assert large.status == "out of memory"
    assert "GiB free" in large.note

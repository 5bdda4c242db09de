"""``--dry-run`` and ``doctor --size``: what a run would take, told without doing anything."""

import re
import subprocess
import sys

import pytest

from stylebench.cli.errors import explain
from stylebench.transfer import inputs, plan
from stylebench.transfer.memory import Memory

CPU = ("--device", "cpu", "--engine", "fused", "--weights", "random")
GIB = 2**30


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine of 24 GiB, 20 of them free, on which no weights are read."""
    monkeypatch.setattr(plan, "memory_of", lambda device: Memory(20 * GIB, 24 * GIB))
    monkeypatch.setattr(inputs, "load_weights", lambda source: pytest.fail("weights were read"))


def dry(call, *arguments):
    return call("stylize", "photo.png", "painting.png", "-o", "out.png", *arguments, "--dry-run")


def test_a_dry_run_tells_every_size_and_the_peak_and_writes_nothing(folder, call):
    before = sorted(folder.iterdir())
    code, out, err = dry(call, *CPU, "--precision", "bf16", "--size", "256", "--history", "7")
    assert (code, err) == (0, "")
    rows = [re.split(r"  +", line) for line in out.splitlines()]
    assert rows[0] == ["size", "iterations", "engine", "precision", "history", "tile", "peak"]
    chosen = [row[:6] for row in rows[1:-2]]
    assert chosen == [
        ["128 x 85 px", "250", "fused", "bf16", "7 in fp32", "whole"],
        ["256 x 171 px", "350", "fused", "bf16", "7 in fp32", "whole"],
        ["256 x 171 px", "150", "fused", "fp32", "7 in fp32", "whole"],
    ]
    assert re.match(
        r"peak \S+ [MG]iB: held before .*network .*history .*libraries", out.splitlines()[-2]
    )
    assert re.match(
        r"it fits: .* more, and cpu has 20.0 GiB free of 24.0 GiB", out.splitlines()[-1]
    )
    assert sorted(folder.iterdir()) == before


def test_adam_and_a_history_in_bf16_are_told(folder, call):
    _, out, _ = dry(call, *CPU, "--optimizer", "adam")
    assert "none" in out.splitlines()[1]
    _, out, _ = dry(call, *CPU, "--history-dtype", "bf16")
    assert "100 in bf16" in out.splitlines()[1]


@pytest.mark.parametrize("arguments", [("--dry-run",), ()])
def test_what_cannot_fit_is_refused_in_one_line_of_options(folder, call, arguments):
    code, out, err = call(
        "stylize", "photo.png", "painting.png", *CPU, "--size", "20000", *arguments
    )
    assert (code, out) == (2, "")
    assert re.fullmatch(
        r"stylebench: error: 20000 x 13333 px with 20 pairs of L-BFGS need \S+ GiB, and cpu has "
        r"20.0 GiB free of 24.0 GiB: lower --size to \d+ px, or --history to 5 and the size to "
        r"\d+ px\n",
        err,
    )


def test_doctor_tells_the_plan_of_a_size(call, monkeypatch):
    monkeypatch.setattr("stylebench.cli.doctor._auto_weights", list)
    code, out, _ = call("doctor", "--size", "512")
    assert code == 0
    assert "a run at 512 x 512 px would take" in out
    assert "  512 x 512 px" in out
    assert "  it fits: " in out
    _, out, _ = call("doctor", "--size", "9000")
    assert "  it does not fit: 9000 x 9000 px with 20 pairs" in out
    assert "it does not fit" not in call("doctor")[1]


@pytest.mark.parametrize(("size", "message"), [("0", "--size"), ("4", "too small for relu5_1")])
def test_doctor_refuses_a_size_that_cannot_be(call, monkeypatch, size, message):
    monkeypatch.setattr("stylebench.cli.doctor._auto_weights", list)
    code, _, err = call("doctor", "--size", size)
    assert code == 2
    assert message in err


def test_memory_that_runs_out_is_told_by_what_the_run_needs():
    error = MemoryError()
    assert explain(error) == "out of memory; lower --size or --history (no more)"
    error.add_note("512 x 384 px with 100 pairs need 1.2 GiB: lower the size to 400 px")
    assert explain(error) == f"out of memory: {error.__notes__[0]}"


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_of(arguments):
    """The peak of a process in MiB, once it has ended well.

    A process between: Linux counts what the one that forks holds as the child's own.
    """
    command = [sys.executable, "-c", PEAK, sys.executable, "-m", "stylebench", *arguments]
    return int(subprocess.check_output(command).split()[-1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the resident set is counted as Linux does")
@pytest.mark.parametrize(
    ("engine", "precision"), [("fused", "fp32"), ("fused", "bf16"), ("reference", "fp32")]
)
def test_the_estimate_is_within_its_margin_of_a_process(folder, photo, engine, precision):
    photo.resize((256, 192)).save(folder / "photo.png")
    photo.rotate(90).resize((256, 192)).save(folder / "painting.png")
    run = [
        "stylize", "photo.png", "painting.png", "--device", "cpu", "--engine", engine,
        "--precision", precision, "--size", "256", "-n", "3", "--scales", "none", "--quiet",
    ]  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-m", "stylebench", *run, "--dry-run"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    parts = re.findall(r"(\d[\d.]*) (MiB|GiB)", re.search(r"^peak [^:]*:(.*)$", told, re.M)[1])
    estimate = sum(float(count) * {"MiB": 1, "GiB": 1024}[unit] for count, unit in parts)
    measured = peak_of(run)
    assert abs(estimate / measured - 1) <= plan.MARGIN

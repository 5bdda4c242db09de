"""What a target does when part of it fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def bench(tmp_path):
    """Run ``make bench`` with a program that ends as told; return its code, and what it ran."""

    def run(**codes):
        endings = "".join(f"{suite}) exit {code};; " for suite, code in codes.items())
        program = tmp_path / "stylebench"
        program.write_text(f"#!/bin/sh\necho $2 >> {tmp_path}/ran\ncase $2 in {endings}esac\n")
        program.chmod(0o755)
        ready = tmp_path / "ready"
        ready.touch()
        done = subprocess.run(
            ["make", "bench", f"BIN={tmp_path}", f"READY={ready}"],
            cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
            env={name: value for name, value in os.environ.items() if "MAKE" not in name},
        )  # fmt: skip
        return done.returncode, (tmp_path / "ran").read_text().split(), done.stderr

    return run


def test_every_suite_runs_and_failures_are_named_at_the_end(bench):
    code, ran, said = bench(parity=1, sizes=2)
    assert code != 0
    assert ran == ["smoke", "parity", "iteration", "kernels", "sizes", "time-to-loss", "batch",
                   "scaling", "stylize"]  # fmt: skip
    assert "failed: parity sizes" in said


def test_suites_that_do_not_fail_are_no_failure(bench):
    code, ran, _ = bench()
    assert (code, len(ran)) == (0, 9)


def test_ctrl_c_ends_it(bench):
    code, ran, _ = bench(iteration=130)
    assert code != 0
    assert ran == ["smoke", "parity", "iteration"]

"""Whatever becomes of standard output and error: nothing is lost and no exit code changes."""

import subprocess
import sys

import pytest

QUICK = "--weights random --size 32 --iterations 3 --device cpu --engine fused --precision fp32"
RUN = f"{sys.executable} -m stylebench stylize photo.png painting.png {QUICK}"


def shell(line, **options):
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"{RUN} 2>&1 | head -1", marks=pytest.mark.slow),
        pytest.param(f"{RUN} 2>/dev/full", marks=pytest.mark.slow),
        pytest.param(f"{RUN} 2>&-", marks=pytest.mark.slow),
        pytest.param(f"{RUN} <&- >&- 2>&-", marks=pytest.mark.slow),
    ],
)
def test_a_run_whose_output_goes_nowhere_ends_well(folder, line):
    done = shell(line)
    assert (done.returncode, (folder / "out.png").is_file()) == (0, True)


@pytest.mark.parametrize("end", [">/dev/full", ">&-", "| true", ">/dev/full 2>&1"])
@pytest.mark.parametrize(("command", "code"), [("--version", 0), ("paint", 2)])
def test_a_word_that_nobody_hears_changes_no_exit_code(end, command, code):
    assert shell(f"{sys.executable} -m stylebench {command} {end}").returncode == code

"""Whatever becomes of standard output and error: nothing is lost and no exit code changes."""

import io
import subprocess
import sys

import pytest

from stylebench.cli.console import PlainConsole
from stylebench.cli.streams import ascii_only, printable

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
        f"{RUN} 2>&1 | head -1",
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


class Terminal(io.StringIO):
    def __init__(self, encoding):
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self):
        return self._encoding


@pytest.mark.parametrize(
    ("encoding", "variables", "expected"),
    [
        ("ascii", {}, True),
        ("US-ASCII", {}, True),
        ("latin-1", {}, True),
        ("utf-8", {}, False),
        ("utf-8", {"LANG": "en_US.UTF-8"}, False),
        ("utf-8", {"LANG": "C.UTF-8"}, False),
        ("utf-8", {"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),  # as Python coerces it
        ("utf-8", {"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, True),
        ("utf-8", {"LC_ALL": "C.UTF-8", "LANG": "C"}, False),
    ],
)
def test_terminals_that_show_ascii_alone(monkeypatch, encoding, variables, expected):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ascii_only(Terminal(encoding)) is expected


@pytest.mark.parametrize(
    "name", ["a[/b].png", "[bold]a[/bold].png", ":smile:.png", "a[/].png", "größe.png"]
)
def test_names_are_printed_as_they_are(name):
    file = io.StringIO()
    PlainConsole(file).print(f"{name}: done")
    assert file.getvalue() == f"{name}: done\n"


def test_characters_that_steer_a_terminal_are_escaped():
    assert printable("a\x1b[31m\udcff\r\n") == "a\\x1b[31m\\udcff\\r\n"

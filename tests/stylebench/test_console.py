"""Texts are printed as they are, whatever brackets, colons and control characters they hold."""

import io

import pytest
from rich.table import Table

from stylebench.bench.records.show import print_table
from stylebench.console import PlainConsole, ascii_only, printable


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


NAMES = ("a[/b].png", "[bold]a[/bold].png", ":smile:.png", "a[/].png", "größe.png", "\\[a]")
STEERS = ("a\x1b[31m", "a\\x1b[31m")


@pytest.mark.parametrize(("name", "shown"), [*zip(NAMES, NAMES, strict=True), STEERS])
def test_names_are_printed_as_they_are(name, shown):
    file = io.StringIO()
    PlainConsole(file).print(f"{name}: done")
    assert file.getvalue() == f"{shown}: done\n"


@pytest.mark.parametrize(("name", "shown"), [*zip(NAMES, NAMES, strict=True), STEERS])
def test_names_in_tables_are_printed_as_they_are(capsys, name, shown):
    table = Table(f"heading {name}", title=f"title {name}")
    table.add_row(f"cell {name}")
    print_table(table)
    printed = capsys.readouterr().out
    for place in ("title", "heading", "cell"):
        assert f"{place} {shown} " in printed


@pytest.mark.parametrize(("name", "shown"), [*zip(NAMES, NAMES, strict=True), STEERS])
def test_names_beside_a_spinner_are_shown_as_they_are(name, shown):
    file = io.StringIO()
    console = PlainConsole(file)
    status = console.status(f"first {name}")
    console.print(status.renderable)
    status.update(f"second {name}")
    console.print(status.renderable)
    assert f"first {shown}" in file.getvalue()
    assert f"second {shown}" in file.getvalue()


def test_characters_that_steer_a_terminal_are_escaped():
    assert printable("a\x1b[31m\udcff\r\n") == "a\\x1b[31m\\udcff\\r\n"

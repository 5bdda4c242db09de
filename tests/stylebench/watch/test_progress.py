"""What a person sees while a run goes."""

import io

import pytest
from rich.console import Console

from stylebench.console import PlainConsole
from stylebench.watch.progress import progress
from stylebench.watch.step import Step


def steps(count):
    for iteration in range(1, count + 1):
        terms = {"content relu4_2": 1.0, "style relu1_1": 2.0, "style relu2_1": 3.0}
        share = iteration / count
        yield Step(iteration, count, 6.0, terms, 0.5 * iteration, share, 7.0, lambda: None)


def shown(count, **options):
    console = Console(file=io.StringIO(), width=200, **options)
    with progress(console) as show:
        for step in steps(count):
            show(step)
    return console.file.getvalue()


def test_a_log_file_gets_a_few_plain_lines():
    lines = shown(100).splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("iteration 1/100  loss 6  2.00 it/s  7 s to go")
    assert lines[-1].startswith("iteration 100/100")
    assert "loss 6  content 1  style 5" in lines[-1]


def test_a_terminal_gets_a_live_bar():
    text = shown(20, force_terminal=True)
    assert "20/20" in text
    assert "content 1  style 5" in text
    assert "2.00 it/s 0:00:07 to go" in text


def test_a_terminal_of_ascii_gets_bars_of_ascii(monkeypatch):
    class Terminal(io.StringIO):
        encoding = "ascii"

        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    console = PlainConsole(Terminal())
    with progress(console) as show:
        for step in steps(20):
            show(step)
    text = console.file.getvalue()
    assert "20/20" in text
    assert text.isascii()


@pytest.mark.parametrize("force_terminal", [True, False])
def test_quiet_is_quiet(force_terminal):
    assert shown(20, quiet=True, force_terminal=force_terminal) == ""

"""Every example of the README and of docs/ runs, small and offline.

The blocks of a page run in order, in one process and one folder that has the pictures and records
that the page names; those that are slow run apart. Against what is printed this is changed, and
nothing else:

- sizes become 32 px or so, iterations 2, scales one of 24 px; the presets' own numbers likewise,
  and their networks end at relu3_1;
- what happens every so many iterations happens at every one;
- a benchmark suite is ``smoke`` at 32 px with the fewest samples: every suite's own run has its
  test elsewhere;
- of what needs a GPU, minutes, git history or a package index, the options alone are checked.
"""

import re
import runpy
import shlex
import sys
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

import stylebench
from stylebench.bench.measure.statistics import timing
from stylebench.bench.measure.timing import Plan
from stylebench.bench.records.record import (
    Case,
    Code,
    Machine,
    Parity,
    Record,
    RecordedCheck,
    Software,
)
from stylebench.bench.records.store import file_name, write_record
from stylebench.bench.suites import smoke
from stylebench.cli import main
from stylebench.cli.app import main as help_of
from stylebench.cli.bench import SUITES
from stylebench.model import presets
from stylebench.model.vgg import Weights

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / page for page in ("README.md", "CONTRIBUTING.md", "results/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
SLOW = ("bench", "compare", "demo", "figure", "report")
SMALL = {
    "size": 32,
    "iterations": 2,
    "content_layers": {"relu2_2": 1.0},
    "style_layers": dict.fromkeys(("relu1_1", "relu2_1", "relu3_1"), 1.0),
}
BRIEF = Plan(target=1.0, seconds=0.01, least=1, most=2, warm_seconds=0.0, shortest=1e-6)
OPTION = re.compile(r"--[a-z-]+")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    return [
        (language, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))
        for indent, language, text in BLOCK.findall(page.read_text("utf-8"))
        if not text.startswith("--8<--")  # a file, with tests of its own
    ]


def lines(text: str) -> list[list[str]]:
    """The words of every line of a shell block, without its comment."""
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def record(suite: str) -> Record:
    """A record of one timed case: the pages' records are of machines that come and go."""
    parameters = {
        "engine": "fused", "precision": "fp32", "width": 64, "height": 48, "weights": "original",
        "weights_sha256": "0" * 64, "optimizer": "lbfgs", "history": 20,
    }  # fmt: skip
    case = Case(
        "fused fp32 64x48",
        parameters,
        parity=Parity("the fp64 reference", [RecordedCheck.of("loss at the start", 0.0, 1e-6)]),
        timing=timing("perf_counter", [0.1, 0.11, 0.12, 0.11, 0.1], []),
    )
    machine, software = (
        Machine("A machine", "a-machine", "cpu"),
        Software("Linux", "3.12", "2", "0"),
    )
    return Record(suite, "2026-03-14T15:09:26+00:00", 5.0, False, True, f"stylebench bench {suite}",
                  machine, software, Code(None, None, "0" * 64), [], [case])  # fmt: skip


def is_slow(words: list[str]) -> bool:
    return words[0] == "stylebench" and words[1] in SLOW


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


EXAMPLES = {name(page): blocks(page) for page in PAGES if blocks(page)}


@pytest.fixture
def folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: Weights,
    photo: Image.Image,
    painting: Image.Image,
) -> Path:
    """A folder with what the pages name, in a process whose presets are small."""
    photo.save(tmp_path / "photo.jpg")
    painting.save(tmp_path / "painting.jpg")
    for several in ("photos", "frames"):
        (tmp_path / several).mkdir()
        photo.save(tmp_path / several / "001.jpg")
    for suite in ("iteration", "sizes"):
        made = record(suite)
        write_record(tmp_path / "results" / file_name(made), made)
    for side in ("before", "after"):
        write_record(tmp_path / f"results/{side}.json", record("iteration"))
    small = {key: replace(row, **SMALL) for key, row in presets.PRESETS.items()}
    monkeypatch.setattr(presets, "PRESETS", small)
    monkeypatch.setattr(stylebench, "PRESETS", small, raising=False)
    monkeypatch.setattr("stylebench.model.weights.random_weights", lambda seed=0: weights)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command line's own
    monkeypatch.setattr(smoke, "_BRIEF", BRIEF)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", EXAMPLES)
def test_examples_run_as_pasted(page, folder, monkeypatch, capsys):
    for language, text in EXAMPLES[page]:
        if language == "python":
            capsys.readouterr()
            exec(compile(smaller(text), page, "exec"), {"__name__": "__main__"})
            assert capsys.readouterr().err == ""
        elif language == "sh":
            for words in lines(text):
                if not is_slow(words):
                    run(words, monkeypatch, capsys)


def test_blocks_are_of_the_languages_that_are_run():
    languages = {language for page in EXAMPLES.values() for language, _ in page}
    assert languages <= {"python", "sh", "text"}


def run(words, monkeypatch, capsys) -> None:
    """Run one line of a shell, or check what of it can be checked here."""
    match words:
        case ["stylebench", "bench", "compare", *rest] if "--base" in rest:
            assert options(rest) <= options_of(help_of, words[:3], monkeypatch, capsys)
        case ["stylebench", *rest]:
            monkeypatch.setattr(sys, "argv", ["stylebench", *smaller_line(rest)])
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code, (words, capsys.readouterr().err)
        case ["python", "-m", module, *rest]:
            monkeypatch.delitem(sys.modules, module, raising=False)  # as in a new process
            start = partial(runpy.run_module, module, run_name="__main__")
            assert options(rest) <= options_of(start, [module], monkeypatch, capsys)
        case ["python", script, *_]:  # which has tests of its own
            assert (ROOT / script).is_file()
        case ["make", target]:
            assert target in TARGETS
        case ["pip", "install", source]:
            path, *extra = source.rstrip("]").split("[")
            assert path == "."
            assert set(extra) <= set(EXTRAS)
        case _:
            pytest.fail(f"nothing says how to run {shlex.join(words)!r}")


def options(words: list[str]) -> set[str]:
    return {word for word in words if word.startswith("-")}


def options_of(start: Callable[[], object], command: list[str], monkeypatch, capsys) -> set[str]:
    """The options that the help of a command names, whose ``start`` runs it in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", [*command, "--help"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        start()
    assert not ended.value.code
    return set(OPTION.findall(capsys.readouterr().out))


def smaller(code: str) -> str:
    """A Python example on small images."""
    code = re.sub(r"\bsize=\d+", "size=32", code)
    code = re.sub(r"\biterations=(\d+)", lambda n: f"iterations={few(int(n[1]))}", code)
    code = re.sub(r"\bevery=\d+", "every=1", code)
    return re.sub(r"\bscales=\{.*?\}", "scales={24: 1}", code)


def few(iterations: int) -> int:
    """2 iterations, or 3 where a run goes on for longer than the one before."""
    return 2 if iterations <= 50 else 3


def smaller_line(words: list[str]) -> list[str]:
    """The arguments of ``stylebench`` on small images."""
    command, *rest = words
    longer = 3 if "--resume" in rest else 2
    if command in ("stylize", "batch", "demo", "compare", "figure"):
        rest = put(rest, "--size", 32)
        rest = put(rest, "--iterations", longer)
        if command == "stylize":
            rest = put(rest, "--preview-every", 1) if "--preview-every" in rest else rest
            rest = put(rest, "--scales", "24=1") if "--scales" in rest else rest
    elif command == "bench" and rest[0] in SUITES:
        rest = put(["smoke", *rest[1:]], "--size", 32)
        rest = put(rest, "--filter", "fused") if "--filter" in rest else rest
    return [command, *rest]


def put(words: list[str], option: str, value: object) -> list[str]:
    """``words`` with an option's value, in place of the one that it has."""
    if option not in words:
        return [*words, option, str(value)]
    index = words.index(option) + 1
    return [*words[:index], str(value), *words[index + 1 :]]


# Lines that come to the same small run, as two suites do, run once.
SLOW_LINES = {
    shlex.join(smaller_line(words[1:])): words
    for page in EXAMPLES.values()
    for language, text in page
    if language == "sh"
    for words in lines(text)
    if is_slow(words)
}


@pytest.mark.slow
@pytest.mark.parametrize("line", SLOW_LINES)
def test_slow_examples_run_as_pasted(line, folder, monkeypatch, capsys):
    run(SLOW_LINES[line], monkeypatch, capsys)

"""The README says what the code does: its table is generated, its examples run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stylebench.bench.report.readme import results_table, split_readme
from stylebench.cli.presets import presets_table

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_preset_table_is_the_current_one():
    assert presets_table(markdown=True) in README


def test_table_of_results_is_that_of_the_records():
    root = Path(__file__).parents[1]
    _, between, _ = split_readme(root / "README.md")
    assert between == results_table([root / "results"], root), "stale: run make report"


def test_pictures_exist():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((Path(__file__).parents[1] / picture).is_file() for picture in pictures)


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_examples_run_as_pasted(example, tmp_path, photo, painting):
    photo.save(tmp_path / "photo.jpg")
    painting.save(tmp_path / "painting.jpg")
    # Small and offline, the rest as pasted: the pictures are 48 px, and the defaults would fetch
    # weights and take 500 iterations.
    quick = (
        "import dataclasses, stylebench.model.presets as o\n"
        "small = {'size': 32, 'iterations': 2}\n"
        "o.PRESETS = {n: dataclasses.replace(p, **small) for n, p in o.PRESETS.items()}\n"
        "import stylebench.model.weights as w; w._auto = w.random_weights\n"
    )
    code = re.sub(r"size=256", "size=32", re.sub(r"iterations=50", "iterations=2", example))
    code = re.sub(r"scales={128: 100}", "scales={24: 2}", code)
    done = subprocess.run(
        [sys.executable, "-c", quick + code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("line", re.findall(r"^    stylebench (.*)$", README, re.MULTILINE))
def test_shell_examples_name_real_options(line):
    command, *words = line.split()
    path = [command, words[0]] if command == "bench" else [command]
    done = subprocess.run(
        [sys.executable, "-m", "stylebench", *path, "--help"],
        capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(?<!\S){option}\b", done.stdout), option


def test_tables_have_as_many_cells_in_every_row():
    for table in re.findall(r"(?:^\|.*\n)+", README, re.MULTILINE):
        assert len({row.count("|") for row in table.splitlines()}) == 1, table

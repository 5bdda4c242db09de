"""The README and docs/ say what the code does, and point to what exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import stylebench
from stylebench.bench.report.readme import results_table, split_readme
from stylebench.cli.bench import SUITES
from stylebench.cli.presets import presets_table
from stylebench.engines import ENGINES

ROOT = Path(__file__).parents[1]
PAGES = [
    *(
        ROOT / page
        for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]
ROOMS = "stylebench|kernels|benchmarks|tests|results|examples|docs"
of_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def test_table_of_presets_is_the_current_one():
    assert presets_table(markdown=True) in read("docs/presets.md")


def test_table_of_results_is_that_of_the_records():
    _, between, _ = split_readme(ROOT / "README.md")
    assert between == results_table([ROOT / "results"], ROOT), "stale: run make report"


@of_every_page
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text("utf-8"))
    lost = [
        link
        for link in links
        if not link.startswith("https://") and not (page.parent / link).exists()
    ]
    assert lost == []


@of_every_page
def test_files_that_are_named_exist(page):
    named = re.findall(rf"`((?:{ROOMS})/[\w./-]*)`", page.read_text("utf-8"))
    lost = [path for path in named if "NAME" not in path and not (ROOT / path).exists()]
    assert lost == []


@of_every_page
def test_tables_have_as_many_cells_in_every_row(page):
    for table in re.findall(r"(?:^\|.*\n)+", page.read_text("utf-8"), re.MULTILINE):
        assert len({row.count("|") for row in table.splitlines()}) == 1, table


def test_every_public_name_is_in_the_reference():
    entries = set(re.findall(r"^::: stylebench\.(\w+)$", read("docs/api.md"), re.MULTILINE))
    assert set(stylebench.__all__) - entries == {"Keep", "__version__"}  # Keep: an alias


@pytest.mark.parametrize(
    ("page", "names"), [("docs/engines.md", ENGINES), ("docs/measuring.md", SUITES)]
)
def test_every_engine_and_suite_has_a_row(page, names):
    rows = re.findall(r"^\| `([\w-]+)` \|", read(page), re.MULTILINE)
    assert set(names) <= set(rows)


def test_every_target_is_in_the_help():
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    targets = re.findall(r"^([a-z][a-z-]*):", read("Makefile"), re.MULTILINE)
    assert re.findall(r"^make (\S+)", shown, re.MULTILINE) == targets


def test_citation_is_of_this_version():
    assert yaml.safe_load(read("CITATION.cff"))["version"] == stylebench.__version__


def test_hooks_fetch_nothing():
    assert {
        hooks["repo"] for hooks in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    } == {"local"}


def test_hosted_runs_do_what_a_clean_clone_does():
    steps = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]["run"]["steps"]
    assert {"run": ".ci/run"} in steps


@pytest.mark.slow
def test_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").rglob("*.md")))
    loaded = re.compile(
        r"<(?:script|img|iframe)\b[^>]*\bsrc=\"?(?:https?:)?//|<link\b[^>]*href=\"?(?:https?:)?//"
    )
    assert [page.name for page in pages if loaded.search(page.read_text("utf-8"))] == []

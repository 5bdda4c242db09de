"""Charts and tables tell what their figures are, and which record they come from."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from stylebench.bench.records.record import Case
from stylebench.bench.records.store import Stored
from stylebench.bench.report.charts import log_axis
from stylebench.bench.report.page import render

from .conftest import CPU, record

SUITES = {"speed": "iteration", "sizes": "sizes", "roof": "kernels", "parts": "iteration",
          "memory": "sizes", "loss": "time-to-loss", "runs": "stylize"}  # fmt: skip


@pytest.fixture(scope="module")
def figures(text):
    """Id of a section -> the traces of its charts, as the page holds them."""
    found = {}
    pattern = r'<script type="application/json" data-for="(\w+)-\d+">(.*?)</script>'
    for section, figure in re.findall(pattern, text):
        found.setdefault(section, []).extend(json.loads(figure)["data"])
    return found


@pytest.mark.parametrize("section", SUITES)
def test_every_point_names_its_record(figures, section):
    points = [words for trace in figures[section] for words in trace["hovertext"]]
    assert len(points) > 1
    assert len(points) == sum(len(trace["x"]) for trace in figures[section])
    files = {words.rpartition("<br>")[2] for words in points}
    name = f"2026-03-14-{SUITES[section]}.json"
    assert files == {f"example-cpu/{name}", f"example-gpu/{name}"}


def test_bars_show_their_figure_without_the_file(figures):
    texts = [words for trace in figures["speed"] for words in trace["text"]]
    assert len(texts) == 2 * 6
    assert not any("json" in words for words in texts)


def test_the_goal_of_the_loss_is_shown_with_how_much_sooner_it_is_reached(text):
    table = text[text.index('<section id="loss">') : text.index('<section id="runs">')]
    titles = re.findall(r'<th scope="col".*?<button type="button">(.*?)</button>', table)
    assert titles[3:9] == [
        "to loss at 100", "to loss at 200", "to loss at 300", "to loss at 300 + 0.5 %",
        "sooner than reference, 300", "sooner than reference, 300 + 0.5 %",
    ]  # fmt: skip
    lines = [
        re.findall(r"<td(.*?)>(.*?)</td>", line) for line in re.findall("<tr>(.*)</tr>", table)
    ]
    (fused,) = [
        line for line in lines if [re.sub("<.*?>", "", cell) for _, cell in line[:3]]
        == ["Example CPU, 2 cores", "fused", "bf16"]
    ]  # fmt: skip
    assert float(fused[8][0].partition('data-sort="')[2].rstrip('"')) == pytest.approx(4.31)


def test_a_median_of_several_runs_says_so(figures):
    names = [trace["name"] for trace in figures["runs"]]
    assert "later runs, median" in names
    assert "second run" not in names
    points = [words for trace in figures["runs"] for words in trace["hovertext"]]
    assert any("median of 20 later runs: 9.20 s" in words for words in points)


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ([0.96e9, 1.56e9], [0.8e9, 1e9, 1.2e9, 1.4e9, 1.6e9]),
        ([0.31, 0.34], [0.31, 0.32, 0.33, 0.34]),
        ([1, 100], None),
        ([3, 3], None),
        ([], None),
    ],
)
def test_a_short_logarithmic_axis_has_marks_too(values, marks):
    axis = log_axis("B", pd.Series(values, dtype=float))
    assert axis.get("tickvals") == marks
    assert ("dtick" in axis) is (marks is None)


def test_a_section_without_what_it_is_about_says_what_to_run():
    only = Stored(Path("a.json"), record("iteration", CPU, [Case("a", {})]))
    page = render([only], [])
    assert "Measured roofs" in page
    assert "<code>stylebench bench kernels</code> writes them" in page

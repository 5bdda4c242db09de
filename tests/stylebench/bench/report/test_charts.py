"""Charts and tables tell what their figures are, and which record they come from."""

import json
from pathlib import Path

import pytest

from stylebench.bench.records.record import Case
from stylebench.bench.records.store import Stored, load_records
from stylebench.bench.report.charts import log_axis
from stylebench.bench.report.page import render
from stylebench.bench.report.rows import gather
from stylebench.bench.report.sections import sections

from .conftest import CPU, record

SUITES = {"speed": "iteration", "sizes": "sizes", "roof": "kernels", "parts": "iteration",
          "memory": "sizes", "loss": "time-to-loss", "runs": "stylize"}  # fmt: skip


@pytest.fixture(scope="module")
def shown(results):
    return {section.id: section for section in sections(gather(load_records(results)[0]))}


def traces(section):
    return [trace for chart in section.charts for trace in json.loads(chart.figure)["data"]]


@pytest.mark.parametrize("section", SUITES)
def test_every_point_names_its_record(shown, section):
    points = [text for trace in traces(shown[section]) for text in trace["hovertext"]]
    assert len(points) > 1
    files = {text.rpartition("<br>")[2] for text in points}
    name = f"2026-03-14-{SUITES[section]}.json"
    assert files == {f"example-cpu/{name}", f"example-gpu/{name}"}


def test_bars_show_their_figure_without_the_file(shown):
    assert not any("json" in text for trace in traces(shown["speed"]) for text in trace["text"])


def test_the_goal_of_the_loss_is_shown_with_how_much_sooner_it_is_reached(shown):
    (table,) = shown["loss"].tables
    titles = [title for title, _ in table.columns]
    assert titles[3:9] == [
        "to loss at 100", "to loss at 200", "to loss at 300", "to loss at 300 + 0.5 %",
        "sooner than reference, 300", "sooner than reference, 300 + 0.5 %",
    ]  # fmt: skip
    (fused,) = [row for row in table.rows if [cell.text for cell in row[:3]] == [
        "Example CPU, 2 cores", "fused", "bf16"]]  # fmt: skip
    assert fused[8].sort == pytest.approx(4.31)


def test_a_median_of_several_runs_says_so(shown):
    names = [trace["name"] for trace in traces(shown["runs"])]
    assert "later runs, median" in names
    assert "second run" not in names
    words = [text for trace in traces(shown["runs"]) for text in trace["hovertext"]]
    assert any("median of 20 later runs: 9.20 s" in text for text in words)


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
    axis = log_axis("B", values)
    assert axis.get("tickvals") == marks
    assert ("dtick" in axis) is (marks is None)


def test_a_section_without_what_it_is_about_says_what_to_run():
    only = Stored(Path("a.json"), record("iteration", CPU, [Case("a", {})]))
    page = render([only], [])
    assert "Measured roofs" in page
    assert "<code>stylebench bench kernels</code> writes them" in page

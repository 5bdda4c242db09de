"""The README's table is that of the records, and only what lies between the comments changes."""

import pytest

from stylebench.bench.records.record import Case
from stylebench.bench.records.store import file_name, write_record
from stylebench.bench.report.readme import BEGIN, END, NONE, results_table, rewrite_readme

from .conftest import CPU, HOSTILE, record


def test_a_row_for_each_machine_size_engine_and_precision(results):
    lines = results_table([results], results.parent).splitlines()
    assert len(lines) == 2 + 1 + 2 * 3 * 5  # headings, the old failed case, and no engine "plain"
    assert len({line.count("|") for line in lines}) == 1
    (fused,) = [line for line in lines if "CPU" in line and "512 x 384 | fused bf16" in line]
    assert (
        "| 3.45 | 290 ms \N{PLUS-MINUS SIGN} 0.400 % | 4.31 x | 442 MB | passed, 2 checks |"
        in fused
    )
    assert "[2026-03-14](results/example-cpu/2026-03-14-iteration.json)" in fused
    (old,) = [line for line in lines if "2025-01-02" in line]
    assert "| - | - | - | - | failed: an old run |" in old


def test_without_records_it_is_one_line(tmp_path):
    assert results_table([tmp_path], tmp_path) == NONE


def test_rewriting_leaves_the_rest_alone_and_is_stable(results):
    readme = results.parent / "README.md"
    readme.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    rewrite_readme(readme, [results])
    text = readme.read_text()
    assert text == f"before\n{BEGIN}\n{results_table([results], readme.parent)}\n{END}\nafter\n"
    rewrite_readme(readme, [results])
    assert readme.read_text() == text


def test_a_readme_without_the_comments_is_refused(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing here")
    with pytest.raises(ValueError, match=r"README\.md: expected the lines"):
        rewrite_readme(readme, [tmp_path])
    assert readme.read_text() == "nothing here"


def test_a_case_cannot_break_the_table(tmp_path):
    hostile = Case("a", {"engine": "fused", "precision": "|\n" + HOSTILE}, "failed", "no | time\n")
    one = record("iteration", CPU, [hostile])
    write_record(tmp_path / file_name(one), one)
    table = results_table([tmp_path], tmp_path)
    assert len(table.splitlines()) == 3
    assert "<script" not in table
    assert table.splitlines()[2].replace("\\|", "").count("|") == 10

"""The README's table is that of the results, and only what lies between the comments changes."""

import json
import re
from dataclasses import replace

import pytest

from stylebench.bench.records.record import Case
from stylebench.bench.records.store import file_name, load_records, write_record
from stylebench.bench.report.readme import (
    BEGIN,
    END,
    NONE,
    _cell,
    _relative,
    results_table,
    rewrite_readme,
)

from .conftest import CPU, HOSTILE, PASSED, record, timing

PEERS = {
    "machine": "2 cores",
    "conditions": "512 x 384, L-BFGS",
    "method": "in turn",
    "rows": [
        {"implementation": "slow peer", "kind": "peer", "seconds": 4.0},
        {"implementation": "fast peer 1.2", "kind": "peer", "seconds": 3.0},
        {"implementation": "ours reference", "kind": "reference", "seconds": 6.0},
        {"implementation": "ours fused", "kind": "ours", "seconds": 1.5},
    ],
}


@pytest.fixture
def peers(tmp_path):
    def write(**changes):
        (tmp_path / "results").mkdir(exist_ok=True)
        text = json.dumps({**PEERS, **changes})
        (tmp_path / "results" / "peers.json").write_text(text)
        return tmp_path / "results"

    return write


def test_peers_and_ours_have_one_figure_a_cell_and_their_conditions_above(peers, tmp_path):
    assert results_table([peers()], tmp_path).splitlines() == [
        "2 cores; 512 x 384, L-BFGS; in turn ([figures](results/peers.json)).",
        "",
        "| implementation | s an iteration | against the fastest peer | against our reference |",
        "| --- | ---: | ---: | ---: |",
        "| slow peer | 4.00 | 0.750 x | 1.50 x |",
        "| fast peer 1.2 | 3.00 | 1.00 x | 2.00 x |",
        "| ours reference | 6.00 | 0.500 x | 1.00 x |",
        "| ours fused | 1.50 | 2.00 x | 4.00 x |",
    ]


def test_a_file_of_peers_is_no_broken_record(peers):
    assert load_records(peers()) == ([], [])


@pytest.mark.parametrize(
    "rows",
    [
        PEERS["rows"][:2],  # no reference
        PEERS["rows"][2:],  # no peer
        [{"implementation": "a", "kind": "peer"}],
        [{**row, "seconds": 0} for row in PEERS["rows"]],
        "rows",
    ],
)
def test_a_file_of_peers_that_lacks_something_is_named_with_its_form(peers, tmp_path, rows):
    with pytest.raises(ValueError, match=r"peers\.json: expected machine, .* kind \(peer, "):
        results_table([peers(rows=rows)], tmp_path)


def test_a_machine_has_a_row_for_its_fused_engine_against_the_reference_of_its_record(results):
    above, blank, *lines = results_table([results], results.parent).splitlines()
    assert (blank, len(lines)) == ("", 2 + 2)  # headings, and no row of the old failed case
    assert len({line.count("|") for line in lines}) == 1
    assert "the reference engine of the same record" in above
    (row,) = [line for line in lines if "CPU" in line]
    link = "[Example CPU, 2 cores](results/example-cpu/2026-03-14-iteration.json)"
    where = f"stylebench fused bf16 on {link}, 512 x 384, history 100"
    assert row == f"| {where} | 0.290 | - | 4.31 x |"


def test_a_quick_run_says_so(tmp_path):
    parameters = {"engine": "fused", "precision": "fp32", "width": 64, "height": 48}
    case = Case("a", parameters, parity=PASSED, timing=timing(1.0))
    one = record("iteration", CPU, [case], quick=True)
    write_record(tmp_path / file_name(one), one)
    (row,) = results_table([tmp_path], tmp_path).splitlines()[4:]
    assert row.startswith("| stylebench fused fp32 on [Example CPU, 2 cores](example-cpu/")
    assert row.endswith(", 64 x 48, quick run | 0.998 | - | - |")


def test_a_case_that_failed_has_no_row(tmp_path):
    failed = Case("a", {"engine": "fused"}, "failed", parity=PASSED, timing=timing(1.0))
    one = record("iteration", CPU, [failed])
    write_record(tmp_path / file_name(one), one)
    assert results_table([tmp_path], tmp_path) == NONE


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("[a](http://b.c)", r"\[a\](http\://b.c)"),
        ("![a](b)", r"\!\[a\](b)"),
        ("`a`", r"\`a\`"),
        ("**a** _b_ ~~c~~", r"\*\*a\*\* \_b\_ \~\~c\~\~"),
        ("<b>&lt;", "&lt;b&gt;&amp;lt;"),
        ("<!-- end of results -->", r"&lt;\!-- end of results --&gt;"),
        ("https://a.b www.a.b a@b.c", r"https\://a.b www\.a.b a\@b.c"),
        ("a\n\n# b\r\t| c", r"a \# b \| c"),
        ("a\\|b", r"a\\\|b"),
        (":smile: $x$", r"\:smile\: \$x\$"),
        ("a\u202eb\u200b", "ab"),
        ("fused bf16, 512 x 384 (mkl, tv 0) 1.6.0-b", "fused bf16, 512 x 384 (mkl, tv 0) 1.6.0-b"),
    ],
)
def test_text_is_shown_as_it_is(text, shown):
    assert _cell(text) == shown


def test_a_link_ends_where_its_file_does(tmp_path):
    assert (
        _relative(tmp_path / "a b) [c](d)|.json", tmp_path) == "a%20b%29%20%5Bc%5D%28d%29%7C.json"
    )


@pytest.mark.parametrize("seconds", [0, -1, "nan", "inf", 10**400, [], None])
def test_figures_of_peers_are_above_0(peers, tmp_path, seconds):
    rows = [*PEERS["rows"], {"implementation": "a", "kind": "ours", "seconds": seconds}]
    with pytest.raises(ValueError, match=r"peers\.json: expected machine, "):
        results_table([peers(rows=rows)], tmp_path)


def test_a_peer_without_a_name_is_refused(peers, tmp_path):
    rows = [*PEERS["rows"], {"implementation": 3, "kind": "ours", "seconds": 1}]
    with pytest.raises(ValueError, match=r"peers\.json: expected machine, "):
        results_table([peers(rows=rows)], tmp_path)


def test_neither_a_case_nor_a_peer_can_break_the_table(peers, tmp_path):
    hostile = "](|\n" + HOSTILE
    rows = [*PEERS["rows"], {"implementation": hostile, "kind": "ours", "seconds": 1}]
    folder = peers(rows=rows)
    parameters = {"engine": "fused", "precision": hostile}
    case = Case("a", parameters, parity=PASSED, timing=timing(1.0))
    one = record("iteration", replace(CPU, name=hostile), [case])
    write_record(folder / file_name(one), one)
    table = results_table([folder], tmp_path)
    *_, peer, own = table.splitlines()
    assert len(table.splitlines()) == 2 + 2 + 5 + 1
    for row in (peer, own):
        assert row.replace("\\|", "").count("|") == 5
        assert "<" not in row
    assert re.findall(r"(?<!\\)\]", own) == ["]"]  # the link's own

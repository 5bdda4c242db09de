"""Which cases count, what they are called, and what they are held against."""

from dataclasses import replace
from pathlib import Path

import pytest

from stylebench.bench.records.record import Case, Point
from stylebench.bench.records.store import Stored, load_records
from stylebench.bench.report.columns import kernels, speeds
from stylebench.bench.report.headline import headlines
from stylebench.bench.report.numbers import TIMES
from stylebench.bench.report.palette import line_styles
from stylebench.bench.report.plots import rate_by_size
from stylebench.bench.report.rows import gather, labels, reference_of, speed_up, usual_size
from stylebench.bench.report.run_columns import times_to_loss
from stylebench.bench.report.tables import verdict

from .conftest import COMMON, CPU, FAILED, PASSED, record, timing


def case(name, seconds=1.0, **parameters):
    return Case(name, {**COMMON, **parameters}, parity=PASSED, timing=timing(seconds))


def rows(*records):
    return gather([Stored(Path(f"{index}.json"), each) for index, each in enumerate(records)])


def test_the_newest_full_record_of_a_case_counts():
    old = record("iteration", CPU, [case("a", 9), case("b", 5)], "2026-01-01T00:00:00Z")
    new = record("iteration", CPU, [case("a", 2)], "2026-02-01T00:00:00Z")
    quick = record(
        "iteration", CPU, [case("a", 1), case("c", 1)], "2026-03-01T00:00:00Z", quick=True
    )
    found = {row.case.name: row for row in rows(old, new, quick)}
    assert found["a"].rate == pytest.approx(0.5, rel=0.02)
    assert found["a"].anchor == "record-1-0"
    assert found["b"].record_anchor == "record-0"
    assert found["c"].stored.record.quick


def test_what_is_not_as_usual_is_kept_apart_from_the_default():
    size = {"engine": "fused", "precision": "fp32", "width": 512, "height": 384, "threads": 2}
    changes = [{}, {"weights": "imagenet"}, {"threads": 1}, {}]
    found = rows(
        *(
            record("iteration", CPU, [case("a", index + 1, **{**size, **change})],
                   f"2026-0{index + 1}-01T00:00:00Z",
                   command="x --content me.jpg" if index == 3 else "x")
            for index, change in enumerate(changes)
        )
    )  # fmt: skip
    assert labels(found) == [
        "fused fp32", "fused fp32 weights imagenet", "fused fp32 threads 1",
        "fused fp32 content me.jpg",
    ]  # fmt: skip
    (card,) = headlines(found)
    assert card.what == f"fused fp32, 512 {TIMES} 384, L-BFGS, history 100"
    assert rate_by_size("x", "x", found).figure.count('"lines+markers"') == 4


def test_a_ratio_needs_the_same_run():
    work = {"precision": "fp32", "width": 512, "height": 384, "init": "content"}
    loss = {"seconds_to_300": 2.0}
    older = record("iteration", CPU, [
        case("theirs", 3, engine="reference", **work),
        case("eager", 3, implementation="eager", kernel="pool", **work),
        replace(case("loss", engine="reference", **work), values=loss),
    ], "2026-01-01T00:00:00Z")  # fmt: skip
    newer = record("iteration", CPU, [
        case("ours", 1, engine="fused", **work),
        case("kernel", 1, implementation="stylekernels", kernel="pool", **work),
        replace(case("our loss", engine="fused", **work), values=loss),
    ], "2026-02-01T00:00:00Z")  # fmt: skip
    apart = rows(older, newer)
    together = rows(replace(newer, cases=older.cases + newer.cases))
    for found, ratios in ((apart, 1), (together, 2)):  # what is held against itself has one too
        by_name = {row.case.name: row for row in found}
        assert (speed_up(by_name["ours"], found) is not None) is (ratios == 2)
        assert filled(kernels([by_name["eager"], by_name["kernel"]]), "against eager") == ratios
        losses = [by_name["loss"], by_name["our loss"]]
        assert filled(times_to_loss(losses), "sooner than reference, 300") == ratios


def filled(table, title):
    """How many cells of a column are not empty."""
    index = [name for name, _ in table.columns].index(title)
    return sum(bool(line[index].text) for line in table.rows)


def test_labels_name_what_differs_and_nothing_else():
    same = {"engine": "fused", "precision": "bf16", "width": 512, "height": 384}
    first, second = rows(
        record("iteration", CPU, [case("a", **same), case("b", **same | {"history": 20})])
    )
    assert labels([first]) == ["fused bf16"]
    assert labels([first, second]) == ["fused bf16 history 100", "fused bf16 history 20"]
    assert labels(rows(record("x", CPU, [Case("nameless", {})]))) == ["nameless"]


def test_only_lbfgs_has_a_history():
    same = {"engine": "fused", "precision": "bf16", "history": 20}
    adam, lbfgs, bare = rows(
        record(
            "iteration",
            CPU,
            [
                case("a", **same, optimizer="adam"),
                case("b", **same),
                Case("c", same, parity=PASSED),
            ],
        )
    )
    assert labels([adam, lbfgs]) == ["fused bf16 Adam", "fused bf16 L-BFGS history 20"]
    assert bare.text("history") == "20"  # of an old record, when there was nothing but L-BFGS
    assert "gatys-pytorch, Adam" in [cell.text for cell in speeds("", [adam]).rows[0]]


def test_a_ratio_needs_the_same_work_on_the_same_machine():
    size = {"width": 512, "height": 384}
    found = rows(
        record(
            "iteration",
            CPU,
            [
                case("ours", 1, engine="fused", **size),
                case("theirs", 3, engine="reference", precision="fp32", **size),
                case("oracle", 9, engine="reference", precision="fp64", **size),
                case("larger", 3, engine="fused", width=1024, height=768),
            ],
        )
    )
    by_name = {row.case.name: row for row in found}
    assert reference_of(by_name["ours"], found) is by_name["theirs"]
    assert speed_up(by_name["ours"], found) == pytest.approx(3, rel=0.02)
    assert speed_up(by_name["larger"], found) is None
    assert {row.text("size") for row in usual_size(found)} == {"512 \N{MULTIPLICATION SIGN} 384"}


@pytest.mark.parametrize("reference", [True, False])
def test_the_headline_is_what_a_user_gets_with_its_ratio(reference):
    """Not a luckier row of another history, nor Adam's, which nothing was held against."""
    size = {"width": 512, "height": 384}
    fused = {"engine": "fused", **size}
    cases = [
        case("long history", 0.97, precision="bf16", history=100, **fused),
        case("adam", 0.98, precision="bf16", history=20, optimizer="adam", **fused),
        case("slower", 1.5, precision="fp32", history=20, **fused),
        case("as usual", 1.0, precision="bf16", history=20, **fused),
    ]
    if reference:
        cases.append(case("theirs", 3, engine="reference", precision="fp32", history=20, **size))
    (card,) = headlines(rows(record("iteration", CPU, cases)))
    assert card.what == f"fused bf16, 512 {TIMES} 384, L-BFGS, history 20"
    assert bool(card.facts) is reference


def test_a_ratio_counts_for_more_than_the_default_history():
    size = {"width": 512, "height": 384}
    cases = [
        case("as usual", 1, engine="fused", precision="fp32", history=20, **size),
        case("long history", 2, engine="fused", precision="fp32", history=100, **size),
        case("theirs", 3, engine="reference", precision="fp32", history=100, **size),
    ]
    (card,) = headlines(rows(record("iteration", CPU, cases)))
    assert card.what.endswith("history 100")
    assert card.facts


def test_parameters_of_the_wrong_kind_are_as_good_as_absent():
    strange = Case("strange", {"width": "wide", "height": True, "engine": None})
    (row,) = rows(record("iteration", CPU, [strange]))
    assert (row.pixels, row.side, row.rate) == (None, None, None)
    assert row.text("engine") == row.text("size") == ""
    assert usual_size([row]) == [row]


@pytest.mark.parametrize(
    ("given", "text", "tone"),
    [
        (Case("a", {}, parity=PASSED), "passed, 2 checks", "good"),
        (Case("a", {}, "parity failed", parity=FAILED), "failed: gradient 0.0340 > 0.0120", "bad"),
        (Case("a", {}, "out of memory", "wants 9 GB"), "out of memory: wants 9 GB", "bad"),
        (Case("a", {}, "failed", parity=PASSED), "failed", "bad"),
        (Case("a", {}), "not compared", "soft"),
    ],
)
def test_a_verdict_never_passes_what_did_not(given, text, tone):
    cell = verdict(given)
    assert (cell.text, cell.tone) == (text, tone)


def test_a_case_that_failed_keeps_no_time_however_it_is_spelled():
    failed = Case(
        "a", {}, "failed", parity=PASSED, roof_share=0.5, parts={"taps": 1.0},
        curve=[Point(1, 1, 1)], values={"seconds_to_300": 2.0, "psnr": 20.0},
    )  # fmt: skip
    (row,) = rows(record("time-to-loss", CPU, [failed]))
    assert (row.case.parts, row.case.curve, row.case.roof_share) == ({}, [], None)
    assert row.case.values == {"psnr": 20.0}


def test_lines_of_one_engine_never_look_alike():
    kinds = [("fused", "fp32"), ("fused", "bf16"), ("compiled", "bf16")]
    assert line_styles(kinds)[1] == line_styles(kinds)[2] == ("dash", "diamond")
    twins = line_styles([("fused", "bf16")] * 4)
    assert len(set(twins)) == 4


def test_every_fixture_is_read_but_the_broken_one(results):
    stored, faults = load_records(results)
    assert len(stored) == 13
    assert len(faults) == 1
    assert "broken.json" in faults[0]

"""The cases that count, their names, and the cases that they are held against."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from stylebench.bench.records.record import Case, Point
from stylebench.bench.records.store import Stored, load_records
from stylebench.bench.report.frame import labels, page_frame, renamed, usual_size
from stylebench.bench.report.headline import headlines
from stylebench.bench.report.numbers import TIMES
from stylebench.bench.report.palette import line_styles
from stylebench.bench.report.plots import rate_by_size
from stylebench.bench.report.sections import sections
from stylebench.bench.report.tables import verdict

from .conftest import COMMON, CPU, FAILED, PASSED, record, timing


def case(name, seconds=1.0, **parameters):
    return Case(name, {**COMMON, **parameters}, parity=PASSED, timing=timing(seconds))


def store(*records):
    return [Stored(Path(f"{index}.json"), one) for index, one in enumerate(records)]


def rows(*records):
    return page_frame(store(*records))


def by_case(frame):
    return frame.set_index("case", drop=False)


def column(table, title):
    """The cells below a heading; none where the column is not there, since nothing filled it."""
    titles = [name for name, _ in table.columns]
    return [line[titles.index(title)] for line in table.rows] if title in titles else []


def test_the_newest_full_record_of_a_case_counts():
    old = record("iteration", CPU, [case("a", 9), case("b", 5)], "2026-01-01T00:00:00Z")
    new = record("iteration", CPU, [case("a", 2)], "2026-02-01T00:00:00Z")
    quick = record(
        "iteration", CPU, [case("a", 1), case("c", 1)], "2026-03-01T00:00:00Z", quick=True
    )
    found = by_case(rows(old, new, quick))
    assert len(found) == 3
    assert found.loc["a", "rate"] == pytest.approx(0.5, rel=0.02)
    assert found.loc["a", "anchor"] == "record-1-0"
    assert found.loc["b", "anchor"] == "record-0-1"
    assert found.loc["c", "quick"]


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
    (best,) = headlines(found).values()
    assert (best["label"], best["overrides"], best["anchor"]) == ("fused fp32", "", "record-0-0")
    assert rate_by_size(found).figure.count('"lines+markers"') == 4


@pytest.mark.parametrize(
    ("suite", "parameters", "section", "title"),
    [
        ("iteration", ({"engine": "reference"}, {"engine": "fused"}), "speed", "against reference"),
        (
            "kernels",
            ({"implementation": "eager"}, {"implementation": "stylekernels"}),
            "roof",
            "against eager",
        ),
        (
            "time-to-loss",
            ({"engine": "reference"}, {"engine": "fused"}),
            "loss",
            "sooner than reference, 300",
        ),
    ],
)
def test_a_ratio_needs_the_same_run(suite, parameters, section, title):
    work = {"precision": "fp32", "width": 512, "height": 384, "init": "content", "kernel": "pool"}
    theirs, ours = (
        replace(case(name, 1, **work, **more), values={"seconds_to_300": 2.0})
        for name, more in zip(("theirs", "ours"), parameters, strict=True)
    )
    older = record(suite, CPU, [theirs], "2026-01-01T00:00:00Z")
    newer = record(suite, CPU, [ours], "2026-02-01T00:00:00Z")
    apart, together = store(older, newer), store(replace(newer, cases=[theirs, ours]))
    for stored, filled in ((apart, 1), (together, 2)):  # the reference has a ratio to itself
        (table, *_) = sections(page_frame(stored), stored)[section].tables
        assert sum(bool(cell.text) for cell in column(table, title)) == filled


def test_labels_name_what_differs_and_nothing_else():
    same = {"engine": "fused", "precision": "bf16", "width": 512, "height": 384}
    both = rows(record("iteration", CPU, [case("a", **same), case("b", **same | {"history": 20})]))
    assert labels(both[:1]) == ["fused bf16"]
    assert labels(both) == ["fused bf16 history 100", "fused bf16 history 20"]
    assert labels(rows(record("x", CPU, [Case("nameless", {})]))) == ["nameless"]
    twins = rows(record("iteration", CPU, [case("a", **same), case("b", **same)]))
    assert labels(twins) == ["a", "b"]


def test_only_lbfgs_has_a_history():
    same = {"engine": "fused", "precision": "bf16", "history": 20}
    cases = [
        case("a", **same, optimizer="adam"),
        case("b", **same),
        Case("c", same, parity=PASSED),  # of an old record, when there was nothing but L-BFGS
    ]
    found = by_case(rows(record("iteration", CPU, cases)))
    assert labels(found.loc[["a", "b"]]) == ["fused bf16 Adam", "fused bf16 L-BFGS history 20"]
    assert list(found.loc[["a", "b", "c"], "settings"]) == [
        "gatys-pytorch, Adam", "gatys-pytorch, L-BFGS, history 20", "history 20"
    ]  # fmt: skip


def test_a_ratio_needs_the_same_work_on_the_same_machine():
    size = {"width": 512, "height": 384}
    cases = [
        case("ours", 1, engine="fused", **size),
        case("oracle", 9, engine="reference", precision="fp64", **size),
        case("theirs", 3, engine="reference", precision="fp32", **size),
        case("larger", 3, engine="fused", width=1024, height=768),
    ]
    found = rows(record("iteration", CPU, cases))
    named = by_case(found)
    assert named.loc["ours", "reference"] == named.loc["theirs", "anchor"]
    assert named.loc["ours", "faster"] == pytest.approx(3, rel=0.02)
    assert math.isnan(named.loc["larger", "faster"])
    assert set(usual_size(found)["size"]) == {f"512 {TIMES} 384"}


@pytest.mark.parametrize("reference", [True, False])
def test_the_headline_is_what_a_user_gets_with_its_ratio(reference):
    """Not a luckier row of another history, nor Adam's, which nothing was held against."""
    size = {"width": 512, "height": 384}
    fused = {"engine": "fused", **size}
    cases = [
        case("short history", 0.97, precision="bf16", history=20, **fused),
        case("adam", 0.98, precision="bf16", history=100, optimizer="adam", **fused),
        case("slower", 1.5, precision="fp32", history=100, **fused),
        case("as usual", 1.0, precision="bf16", history=100, **fused),
    ]
    if reference:
        cases.append(case("theirs", 3, engine="reference", precision="fp32", history=100, **size))
    (best,) = headlines(rows(record("iteration", CPU, cases))).values()
    assert best["case"] == "as usual"
    assert bool(best["faster"] > 1) is reference


def test_a_ratio_counts_for_more_than_the_default_history():
    size = {"width": 512, "height": 384}
    cases = [
        case("as usual", 1, engine="fused", precision="fp32", history=100, **size),
        case("short history", 2, engine="fused", precision="fp32", history=20, **size),
        case("theirs", 3, engine="reference", precision="fp32", history=20, **size),
    ]
    (best,) = headlines(rows(record("iteration", CPU, cases))).values()
    assert best["case"] == "short history"
    assert best["faster"] > 1


def test_parameters_of_the_wrong_kind_are_as_good_as_absent():
    strange = Case("strange", {"width": "wide", "height": True, "engine": None, "psnr": "high"})
    found = rows(record("iteration", CPU, [strange]))
    assert found[["pixels", "side", "psnr"]].isna().all(axis=None)
    assert list(found.loc[0, ["engine", "size"]]) == ["", ""]
    assert list(usual_size(found)["case"]) == ["strange"]


def test_no_parameter_and_no_value_passes_for_a_time_or_a_verdict():
    names = ("rate", "median", "build", "seconds", "faster", "verdict", "link", "anchor", "status")
    forged = dict.fromkeys(names, 9.0)
    for one in (Case("a", forged), Case("a", {}, values={"rate": 9.0, "median": 9.0})):
        (row,) = rows(record("iteration", CPU, [one])).itertuples()
        assert math.isnan(row.rate)
        assert math.isnan(row.seconds)
        assert math.isnan(row.build)
        assert (row.verdict.text, row.anchor) == ("not compared", "record-0-0")


def test_the_engine_once_called_plain_is_shown_as_eager():
    """A new case takes the place of the old one of the other name."""
    size = {"width": 512, "height": 384}
    old = record(
        "iteration",
        CPU,
        [case("plain fp32 512x384", 9, engine="plain", **size), case("plain x", engine="plain")],
        "2026-01-01T00:00:00Z",
    )
    new = record(
        "iteration",
        CPU,
        [case("eager fp32 512x384", 2, engine="eager", **size)],
        "2026-02-01T00:00:00Z",
    )
    found = by_case(page_frame(renamed(store(old, new))))
    assert sorted(found.index) == ["eager fp32 512x384", "eager x"]
    assert set(found["engine"]) == {"eager"}
    assert found.loc["eager fp32 512x384", "rate"] == pytest.approx(0.5, rel=0.02)
    kernel = case("plain kernel", implementation="eager")
    assert renamed(store(record("kernels", CPU, [kernel])))[0].record.cases == [kernel]


def test_parts_of_old_records_have_the_names_of_new_ones():
    """Else one part would have two colors."""
    timed = case("a", 9, engine="fused")
    parted = replace(timed, parts={"convolutions": 0.05, "optimiser": 0.04})
    (shown,) = renamed(store(record("iteration", CPU, [parted])))[0].record.cases
    assert shown.parts == {"convolutions": 0.05, "optimizer": 0.04}


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
    (row,) = rows(record("time-to-loss", CPU, [failed])).itertuples()
    assert (row.parts, row.curve) == ({}, [])
    assert math.isnan(row.roof_share)
    assert math.isnan(row.seconds_to_300)
    assert row.psnr == 20.0


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

"""The tidy frame of results, with the columns that the page and the README's table show.

Suites choose their own parameters and older records have fewer, so anything may be missing here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from stylebench.bench.records.overrides import overrides
from stylebench.bench.records.record import Case, Record
from stylebench.bench.records.store import Stored, results_frame
from stylebench.bench.report.numbers import TIMES
from stylebench.bench.report.tables import Cell, commit, verdict

#: Engines and implementations from the simplest to ours: the order of legends and of tables.
ORDER = ("reference", "eager", "baddbmm", "compiled", "fused", "stylekernels")
#: The longest side, px, at which the literature states its figures.
USUAL_SIDE = 512

# Parameters shown as text -> the word before them, where the value alone would not tell.
_TEXTS = {
    "engine": "", "precision": "", "preset": "", "optimizer": "", "history": "history ",
    "scales": "scales ", "init": "from ", "pooling": "", "seed": "seed ", "tile": "tile ",
    "kernel": "", "layer": "", "implementation": "",
}  # fmt: skip
_SPELLED = {"lbfgs": "L-BFGS", "adam": "Adam"}
_TIMES = ["median", "q1", "q3", "spread", "rate", "roof_share", "build", "first", "capture"]
_NUMBERS = ["width", "height", "channels", "positions", "psnr", "peak_bytes", "flops", "bytes",
            "cold_seconds", "warm_seconds", "first_iteration_seconds", *_TIMES]  # fmt: skip
_SETTINGS = ["preset", "optimizer", "history", "scales", "init", "tile", "overrides"]
_VARYING = ["size", "preset", "optimizer", "history", "scales", "init", "pooling", "seed",
            "tile", "overrides"]  # fmt: skip
_WORK = ["record", "size", "preset", "optimizer", "history", "scales", "tile"]


# Columns that ``load_results`` does not have -> their values, of an anchor, record and case.
_ADDED: Mapping[str, Callable[[str, Stored, Case], Any]] = {
    "anchor": lambda anchor, *_: anchor,  # of the case on the page
    "link": lambda anchor, stored, _: Cell(_run(stored.record), anchor=anchor),
    "file": lambda _, stored, __: "/".join(stored.path.parts[-2:]),  # with the machine's folder
    "slug": lambda _, stored, __: stored.record.machine.slug,
    "overrides": lambda _, stored, case: ", ".join(overrides(stored.record, case)),
    "verdict": lambda _, __, case: verdict(case),
    "oracle": lambda _, __, case: case.parity.oracle if case.parity else "",
    "used": lambda _, __, case: max(_used(case))[
        0
    ],  # share of the limit, by the check nearest to it
    "nearest": lambda _, __, case: max(_used(case))[1],  # that check
    "sample_count": lambda _, __, case: len(case.timing.samples) if case.timing else 0,
    "parts": lambda _, __, case: case.parts if case.status == "ok" else {},
    "curve": lambda _, __, case: case.curve if case.status == "ok" else [],
    "pictures": lambda _, __, case: case.pictures,
}


def renamed(stored: Sequence[Stored]) -> list[Stored]:
    """The records with today's names: of the engine ``eager``, once ``plain``, and of parts."""

    def rename(case: Case) -> Case:
        parts = case.parts and {
            part.replace("optimiser", "optimizer"): seconds for part, seconds in case.parts.items()
        }
        case = replace(case, parts=parts)
        if case.parameters.get("engine") != "plain":
            return case
        parameters = {**case.parameters, "engine": "eager"}
        return replace(case, name=case.name.replace("plain", "eager", 1), parameters=parameters)

    return [
        replace(one, record=replace(one.record, cases=[*map(rename, one.record.cases)]))
        for one in stored
    ]


def page_frame(stored: Sequence[Stored]) -> pd.DataFrame:
    """The cases that count: of each, on each machine with the same overrides, the newest.

    A quick run counts only where there is no full one, and a case that failed has no time. Columns
    are those of ``load_results``, with parameters as texts (empty where missing); ``record``, the
    index in ``stored``; ``settings``; ``rank``, which sorts by ``ORDER``; and those of ``_ADDED``,
    ``_sized`` and ``_compared``.

    Args:
        stored: oldest first.
    """
    places = [
        (index, f"record-{index}-{number}", one, case)
        for index, one in enumerate(stored)
        for number, case in enumerate(one.record.cases)
    ]
    added = {name: [value(*place[1:]) for place in places] for name, value in _ADDED.items()}
    frame = results_frame(stored).assign(record=[place[0] for place in places], **added)
    frame = frame.reindex(columns=list(dict.fromkeys([*frame, *_TEXTS, *_NUMBERS])))
    seconds = frame.columns[frame.columns.str.contains("second", regex=False)]
    for name in {*_NUMBERS, *seconds, *frame.filter(regex=r"^target_\d+$")}:
        frame[name] = np.array([_number(value) for value in frame[name]], float)
    for name, word in _TEXTS.items():
        frame[name] = [word + text if (text := _text(value)) else "" for value in frame[name]]
    # Records state the setting, but no other optimizer keeps pairs.
    frame.loc[~frame["optimizer"].isin(["", "L-BFGS"]), "history"] = ""
    frame.loc[frame["status"] != "ok", [*_TIMES, *seconds]] = np.nan

    frame = frame.sort_values("quick", ascending=False, kind="stable")  # the last one counts
    frame = frame.drop_duplicates(["slug", "device", "suite", "case", "overrides"], keep="last")
    frame = _compared(_sized(frame))
    kind = frame["engine"].where(frame["engine"] != "", frame["implementation"])
    frame["rank"] = [f"{(*ORDER, name).index(name)} {name}" for name in kind]
    frame["settings"] = _joined(frame[_SETTINGS], ", ")
    frame = frame.sort_values(["machine", "pixels", "rank"], na_position="first")
    return frame.reset_index(drop=True)


def _run(record: Record) -> str:
    """The date and commit of a run."""
    quick = "quick" if record.quick else ""
    return " ".join(filter(None, (record.started[:10], commit(record), quick)))


def _used(case: Case) -> list[tuple[float, str]]:
    """The share of its limit that each error takes up, and the check; not empty."""
    return [
        (check.value / check.limit, check.what)
        if check.value is not None and check.limit > 0
        else (0.0 if check.passed else math.inf, check.what)
        for check in (case.parity.checks if case.parity else [])
    ] or [(math.nan, "")]


def _number(value: object) -> float:
    """A finite number; NaN for anything else, true and false included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if math.isfinite(value) else math.nan


def _text(value: object) -> str:
    """A parameter as a person reads it."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as it was: a column with gaps holds whole numbers as floats
    return _SPELLED.get(str(value), str(value))


def _joined(texts: pd.DataFrame, by: str = " ") -> list[str]:
    """The texts of each row, less the empty ones."""
    return [by.join(filter(None, row)) for row in texts.itertuples(index=False, name=None)]


def _sized(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds ``size`` (text), ``side`` (the longest, px), ``pixels``: blank unless both are sizes."""
    pixels = frame["width"] * frame["height"]
    known = (frame["width"] > 0) & (frame["height"] > 0)
    pairs = zip(frame["width"], frame["height"], known, strict=True)
    return frame.assign(
        size=[f"{width:g} {TIMES} {height:g}" if good else "" for width, height, good in pairs],
        side=frame[["width", "height"]].max(axis=1).where(known),
        pixels=pixels.where(known),
    )


def _compared(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds figures that follow from a case's rate, and comparisons within the same run.

    ``seconds`` a unit of work, and what it ``moved`` (B/s) and ``computed`` (FLOP/s).

    ``reference`` is the anchor of the reference engine's case of the same work, fp32 if there is
    one; ``reference_rate`` its rate, ``faster`` the ratio of rates, ``memory_share`` the ratio of
    peaks; ``against_eager`` a kernel's ratio of rates to the eager formulation. Another run had
    other sources, and a machine that was busy or warm in another way.
    """
    timed = frame[frame["rate"] > 0]
    reference = timed[timed["engine"] == "reference"]
    reference = reference.sort_values("precision", key=lambda name: name != "fp32", kind="stable")
    eager = timed[timed["implementation"] == "eager"]
    kernel = ["record", "kernel", "layer", "precision", "size"]
    rate = beside(frame, reference, _WORK, "rate")
    return frame.assign(
        seconds=1 / frame["rate"],
        moved=frame["bytes"] * frame["rate"],
        computed=frame["flops"] * frame["rate"],
        reference=beside(frame, reference, _WORK, "anchor"),
        reference_rate=rate,
        faster=frame["rate"] / rate,
        memory_share=frame["peak_bytes"] / beside(frame, reference, _WORK, "peak_bytes"),
        against_eager=frame["rate"] / beside(frame, eager, kernel, "rate"),
    )


def beside(frame: pd.DataFrame, others: pd.DataFrame, same: list[str], column: str) -> pd.Series:
    """For each row, ``column`` of the first of ``others`` that agrees with it in ``same``."""
    first = others.drop_duplicates(same)[[*same, column]]
    return frame[same].merge(first, "left", on=same).set_axis(frame.index)[column]


def usual_size(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the size whose longest side is nearest to that of the literature's figures."""
    sized = rows[rows["side"] > 0]
    if sized.empty:
        return rows
    sizes = sized.groupby("size").agg(side=("side", "first"), count=("side", "size"))
    sizes["distance"] = np.log(sizes["side"] / USUAL_SIDE).abs()
    best = sizes.sort_values(["distance", "count"], ascending=[True, False]).index[0]
    return rows[rows["size"] == best]


def names(
    rows: pd.DataFrame,
    always: Sequence[str] = ("engine", "precision"),
    varying: Sequence[str] = _VARYING,
) -> list[str]:
    """A name for each row: ``always``, and those of ``varying`` that differ among the rows."""
    differing = [name for name in varying if rows[name].nunique() > 1]
    joined = _joined(rows[[*always, *differing]])
    return [name or case for name, case in zip(joined, rows["case"], strict=True)]


def labels(rows: pd.DataFrame, always: Sequence[str] = ("engine", "precision")) -> list[str]:
    """The rows' names; the case's own name where two rows would share one."""
    found = pd.Series(names(rows, always), rows.index, dtype=object)
    return list(found.where(~found.duplicated(keep=False), rows["case"]))

"""Every committed record lies where its name says, is whole, and has its pictures."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from stylebench.bench.records.record import Case, Code, Machine, Record, Software
from stylebench.bench.records.store import file_name, load_records, write_record

WEIGHTS = {"weights": "original", "weights_sha256": "0" * 64}
RESULTS = Path(__file__).parents[2] / "results"


def faults_of(stored, results):
    """What speaks against committing a record, a line each."""
    record, path = stored.record, stored.path.relative_to(results)
    expected = file_name(record).removesuffix(".json")
    faults = []
    if not re.fullmatch(rf"{re.escape(expected)}(-[2-9]|-[1-9]\d+)?\.json", path.as_posix()):
        faults.append(f"{path}: expected at {expected}.json, or with -2 and so on behind its name")
    if record.quick:
        faults.append(f"{path}: a quick run")
    if not record.complete:
        faults.append(f"{path}: cut short")
    for case in record.cases:
        named = {"weights", "weights_sha256"} <= set(case.parameters)
        if not named or not hashed(case.parameters):
            faults.append(f"{path}: {case.name!r} does not name its weights and their hash")
    pictures = {name for case in record.cases for name in case.pictures.values()}
    lost = (name for name in sorted(pictures) if not (stored.path.parent / name).is_file())
    return faults + [f"{path}: its picture {name} is not there" for name in lost]


def hashed(parameters):
    """Whether the weights have a hash; random ones have a seed in their name in place of it."""
    digest = parameters["weights_sha256"]
    if str(parameters["weights"]).startswith("random:"):
        return digest is None
    return re.fullmatch("[0-9a-f]{64}", str(digest)) is not None


def all_faults(results):
    stored, faults = load_records(results)
    return faults + [fault for each in stored for fault in faults_of(each, results)]


def test_committed_records_are_fit_to_be_committed():
    assert all_faults(RESULTS) == []


@pytest.fixture
def record():
    machine, software = Machine("A", "a", "cpu"), Software("Linux", "3.12", "2.11", "0.1")
    return Record("parity", "2026-03-14T15:09:26+00:00", 1.0, False, True, "x", machine, software,
                  Code(None, None, "0" * 64), [], [Case("a", {**WEIGHTS})])  # fmt: skip


@pytest.mark.parametrize("name", ["a/2026-03-14-parity.json", "a/2026-03-14-parity-2.json"])
def test_a_place_in_order_is_accepted(tmp_path, record, name):
    write_record(tmp_path / name, record)
    assert all_faults(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("a/2026-03-15-parity.json", {}, "expected at a/2026-03-14-parity.json"),
        ("b/2026-03-14-parity.json", {}, "expected at a/"),
        ("a/2026-03-14-parity-1.json", {}, "expected at a/"),
        ("2026-03-14-parity.json", {}, "expected at a/"),
        ("a/2026-03-14-parity-quick.json", {"quick": True}, "a quick run"),
        ("a/2026-03-14-parity.json", {"complete": False}, "cut short"),
        ("a/2026-03-14-parity.json",
         {"cases": [Case("a", WEIGHTS, pictures={"output": "p/a.png"})]},
         "its picture p/a.png is not there"),
        *(
            ("a/2026-03-14-parity.json", {"cases": [Case("a", {**WEIGHTS, **change})]},
             "'a' does not name its weights and their hash")
            for change in ({"weights_sha256": None}, {"weights": "random:0"})
        ),
        ("a/2026-03-14-parity.json", {"cases": [Case("a", {})]}, "does not name its weights"),
    ],
)  # fmt: skip
def test_what_is_not_fit_is_named(tmp_path, record, name, change, fault):
    write_record(tmp_path / name, replace(record, **change))
    (found,) = all_faults(tmp_path)
    assert fault in found


def test_what_is_no_record_is_named(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"version": 1}))
    assert len(all_faults(tmp_path)) == 1

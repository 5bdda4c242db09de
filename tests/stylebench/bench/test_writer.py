"""No run's record takes a case from another's."""

from dataclasses import replace

import pytest

from stylebench.bench.records.overrides import overrides
from stylebench.bench.records.record import Machine
from stylebench.bench.records.store import read_record
from stylebench.bench.records.writer import open_writer


def write(folder, record):
    with open_writer(folder, record.machine.slug) as writer:
        return writer.write(record)[0]


def test_other_weights_are_other_cases(tmp_path, record, case):
    usual = record(replace(case("a"), parameters={"weights": "original"}))
    pretrained = record(
        replace(case("a"), parameters={"weights": "imagenet"}), started="2026-03-14T"
    )
    own = record(*usual.cases, started="2026-03-14U", command="x --content 'a b.jpg'")
    names = [write(tmp_path, each).name for each in (usual, pretrained, own)]
    assert names == [f"2026-03-14-iteration{number}.json" for number in ("", "-2", "-3")]


@pytest.mark.parametrize("text", ["{", '{"version": 99}'])
def test_what_cannot_be_read_is_not_replaced(tmp_path, record, case, text):
    path = tmp_path / "a-machine" / "2026-03-14-iteration.json"
    path.parent.mkdir()
    path.write_text(text)
    assert write(tmp_path, record(case())).name == "2026-03-14-iteration-2.json"
    assert path.read_text() == text


def test_a_record_that_has_them_all_takes_its_place(tmp_path, record, case):
    write(tmp_path, record(case("a"), case("b", samples=(), status="failed")))
    path = write(tmp_path, record(case("a"), case("b"), started="2026-03-14T20:00:00+00:00"))
    assert path.name == "2026-03-14-iteration.json"
    assert read_record(path).cases[1].status == "ok"


@pytest.mark.parametrize(
    ("parameters", "device", "command", "unusual"),
    [
        ({"weights": "original", "threads": 2}, "cpu", "x", ()),
        ({"weights": "random:0", "threads": 2}, "cpu", "x", ("weights random:0",)),
        ({"content": "tuebingen.jpg", "style": "starry_night.jpg"}, "cpu", "x", ()),
        ({"content": "drawn landscape"}, "cpu", "x", ("content drawn landscape",)),
        ({"content": "a.jpg"}, "cpu", "x --content b/a.jpg", ("content a.jpg",)),
        ({}, "cpu", "x", ()),
        ({"weights": "imagenet", "threads": 1}, "cpu", "x", ("weights imagenet", "threads 1")),
        ({"threads": 16}, "cuda", "x --style a/b.jpg", ("style b.jpg",)),
    ],
)
def test_conditions_are_what_was_not_as_usual(record, case, parameters, device, command, unusual):
    machine = Machine("A machine", "a-machine", device, cores=2)
    one = replace(case("a"), parameters=parameters)
    assert overrides(record(one, machine=machine, command=command), one) == unusual

"""Records: no time without proof, files that are whole, and readers that survive the rest."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from stylebench.bench.measure.statistics import timing
from stylebench.bench.records import schema as schemas
from stylebench.bench.records import store
from stylebench.bench.records.record import (
    TIMES,
    VERSION,
    Case,
    Parity,
    Point,
    RecordedCheck,
    Roof,
    Setup,
)
from stylebench.bench.records.store import (
    RecordError,
    file_name,
    load_records,
    load_results,
    read_or_none,
    read_record,
    write_record,
)

TIME = timing("perf_counter", [1.0])
ROOF = Roof("copy", None, None, None, 1e10, "B/s")


@pytest.mark.parametrize(
    "parity", [None, Parity("x", []), Parity("x", [RecordedCheck.of("loss", 2.0, 1.0)])]
)
def test_a_time_without_proof_is_refused(parity):
    with pytest.raises(ValueError, match="'mine' has a time but no passing parity block"):
        Case("mine", {}, timing=TIME, parity=parity)


KINDS_OF_TIME = {
    "timing": TIME, "in_situ": TIME, "setup": Setup(build=1.0), "roof_share": 0.5,
    "parts": {"style": 1.0}, "curve": [Point(1.0, 1, 1.0)],
}  # fmt: skip
NAMES_OF_TIMES = [
    "seconds_to_100", "cold_seconds", "in situ seconds", "megapixel iterations a second", "GB/s",
    "TFLOP/s",
]  # fmt: skip


@pytest.mark.parametrize("name", TIMES)
def test_every_kind_of_time_needs_a_proof(name):
    with pytest.raises(ValueError, match=f"no passing parity block: {name}"):
        Case("mine", {}, **{name: KINDS_OF_TIME[name]})


@pytest.mark.parametrize("name", NAMES_OF_TIMES)
def test_a_value_that_is_a_time_needs_a_proof(name):
    with pytest.raises(ValueError, match=f"no passing parity block: {name}"):
        Case("mine", {}, values={name: 1.0})


def test_what_is_no_time_needs_none():
    Case("mine", {}, status="failed", values={"psnr": 30.0, "ssim": 0.9}, peak_bytes=1, flops=1.0)


@pytest.mark.parametrize(("value", "passed"), [(2.0, True), (1.0, False), (None, True)])
def test_a_check_that_contradicts_its_numbers_is_refused(value, passed):
    with pytest.raises(ValueError, match=f"'loss' contradicts itself: value {value}, .*: {passed}"):
        RecordedCheck("loss", value, 1.0, passed=passed)


def test_the_schema_refuses_what_the_record_does(record, case):
    jsonschema = pytest.importorskip("jsonschema")
    valid = jsonschema.Draft202012Validator(schemas.schema()).is_valid
    text = json.loads(store.as_text(record(case(), Case("bare", {}, status="failed"))))
    assert valid(text)

    def bare(**fields):
        cases = [text["cases"][0], {"name": "bare", "parameters": {}, **fields}]
        return {**text, "cases": cases}

    assert valid(bare())
    empty = {"timing": None, "curve": [], "parts": {}, "values": {"psnr": 30.0}, "parity": None}
    assert valid(bare(**empty))
    for name, value in json.loads(json.dumps(KINDS_OF_TIME, default=asdict)).items():
        assert not valid(bare(**{name: value})), name
        assert valid(bare(**{name: value}, parity=text["cases"][0]["parity"])), name
    for name in NAMES_OF_TIMES:
        assert not valid(bare(values={name: 1.0})), name
    wrong = {"what": "loss", "value": None, "limit": 1.0, "passed": False}
    for checks, holds in [([wrong], False), ([], False), ([{**wrong, "passed": True}], False)]:
        parity = {"oracle": "x", "checks": checks}
        assert valid(bare(timing=asdict(TIME), parity=parity)) is holds


def test_nan_never_passes_and_is_null():
    check = RecordedCheck.of("loss", float("nan"), 1.0)
    assert (check.value, check.passed) == (None, False)


def test_names_are_unique(record, case):
    with pytest.raises(ValueError, match="named twice: fused"):
        record(case(), case())


def test_a_record_comes_back_as_it_went(tmp_path, record, case):
    given = record(case(curve=[Point(0.5, 1, 2.0)], pictures={"output": "a/b.png"}))
    path = write_record(tmp_path / file_name(given), given)
    assert path.relative_to(tmp_path).as_posix() == "a-machine/2026-03-14-iteration.json"
    assert read_record(path) == given
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, record, case, monkeypatch):
    path = write_record(tmp_path / "r.json", record(case()))
    before = path.read_text()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        write_record(path, record(case(samples=(2.0,))))
    monkeypatch.undo()
    assert path.read_text() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "it has no version"),
        ('{"version": 99}', "is of version 99; this stylebench reads up to 3"),
        ('{"version": 1}', "suite: is missing"),
        ('{"version": -1}', "is no record of version -1 (KeyError: 'title')"),
        ('{"version": -2}', "is no record of version -2 (KeyError: 'version')"),
        ('{"version": true}', "it has no version"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("", "is empty, expected a record"),
    ],
)
def test_broken_files_are_named_and_skipped(tmp_path, record, case, text, message, monkeypatch):
    steps = {-1: lambda old: {"suite": old["title"]}, -2: lambda _: {}}
    monkeypatch.setattr(store, "MIGRATIONS", {**store.MIGRATIONS, **steps})
    write_record(tmp_path / "good.json", record(case()))
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(RecordError, match=r"bad\.json"):
        read_record(tmp_path / "bad.json")
    stored, faults = load_records(tmp_path)
    assert [each.path.name for each in stored] == ["good.json"]
    assert len(faults) == 1
    assert message in faults[0]
    with pytest.warns(UserWarning, match="left out: .*bad.json"):
        frame = load_results(tmp_path)
    assert list(frame["case"]) == ["fused fp32 64x48"]
    assert frame["rate"].item() == 1.0


def test_links_to_folders_are_not_followed(tmp_path, record, case):
    write_record(tmp_path / "other.json", record(case()))
    own = write_record(tmp_path / "results" / "machine" / "own.json", record(case()))
    (own.parent / "up").symlink_to("../..")
    (own.parent / "up.json").symlink_to("../..")
    (own.parent / "link.json").symlink_to("own.json")
    stored, faults = load_records(tmp_path / "results")
    assert [each.path.name for each in stored] == ["link.json", "own.json"]
    assert faults == []


def test_a_frame_has_its_columns_without_a_record(tmp_path):
    frame = load_results(tmp_path)
    assert frame.empty
    assert list(frame["case"]) == list(frame["median"]) == list(frame["capture"]) == []


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("cases", 0, "color"), "red", "cases.0.color: is no field of a Case"),
        (("quick",), 1, "quick: expected bool, found int 1"),
        (("seconds",), "5", "seconds: expected float, found str '5'"),
        (("machine", "cores"), True, "machine.cores: expected int, found bool True"),
        (("machine", "cores"), 2.0, "machine.cores: expected int, found float 2.0"),
        (("suite",), None, "suite: expected str, found NoneType None"),
        (("cases",), {}, "cases: expected list, found dict {}"),
        (("cases", 0), "a", "cases.0: expected dict, found str 'a'"),
        (("cases", 0, "status"), "fine", "cases.0.status: 'fine' is none of 'ok', 'parity failed'"),
        (("cases", 0, "parameters"), {"size": []}, "cases.0.parameters.size: expected str"),
        (("cases", 0, "values"), {"psnr": "high"}, "cases.0.values.psnr: expected float"),
        (("cases", 0, "timing", "samples", 1), None, "cases.0.timing.samples.1: expected float"),
        (("cases", 0, "timing", "median"), float("nan"), "median: nan is not a finite number"),
        (("cases", 0, "timing", "median"), float("inf"), "median: inf is not a finite number"),
        (("cases", 0, "parity"), None, "cases.0: case 'fused fp32 64x48' has a time but no"),
        (("cases", 0, "parity", "checks", 0, "value"), 2.0, "'nothing' contradicts itself"),
        (("cases", 0, "parity", "checks", 0, "limit"), float("inf"), "inf is not a finite number"),
        (("cases", 0, "parity", "checks", 0, "limit"), float("nan"), "nan is not a finite number"),
        (("cases", 0, "parity", "checks", 0, "limit"), -1.0, "limit is -1.0; expected 0 or more"),
        (("cases", 0, "timing", "samples"), [], "samples is []; expected one or more, finite"),
        (("cases", 0, "timing", "samples", 0), 0.0, "a sample is 0.0; expected above 0"),
        (("cases", 0, "timing", "samples", 0), -1.0, "a sample is -1.0; expected above 0"),
        (("cases", 0, "timing", "samples", 0), 10**400, "is an integer of more than 64 bits"),
        (("cases", 0, "values"), {"psnr": 1e300}, "1e+300 is no measurement"),
        (("cases", 0, "parameters"), {"width": 1e-300}, "1e-300 is no measurement"),
        (("cases", 0, "timing", "disturbed"), [3], "disturbed is [3]; expected each a sample's"),
        (("cases", 0, "timing", "disturbed"), [1, 1], "disturbed is [1, 1]; expected each"),
        (("cases", 0, "timing", "median"), 0.0, "median is 0.0; expected above 0"),
        (("cases", 0, "timing", "q1"), 2.0, "quartiles is (2.0, 1.0, 1.0); expected in their"),
        (("cases", 0, "timing", "spread"), -0.1, "spread is -0.1; expected 0 or more"),
        (("cases", 0, "timing", "per_sample"), 0, "per_sample is 0; expected 1 or more"),
        (("cases", 0, "values"), {"seconds_to_9": 0.0}, "seconds_to_9 is 0.0; expected above 0"),
        (("cases", 0, "values"), {"GB/s": -1.0}, "GB/s is -1.0; expected above 0"),
        (("cases", 0, "peak_bytes"), -1, "peak_bytes is -1; expected above 0"),
        (("cases", 0, "setup"), {"build": -1.0}, "build is -1.0; expected 0 or more"),
        (("cases", 0, "parts"), {"style": -1.0}, "style is -1.0; expected above 0"),
        (("cases", 0, "name"), "a\0", "which is no text"),
        (("machine", "slug"), "../../elsewhere", "slug is '../../elsewhere'; expected lowercase"),
        (("suite",), "../x", "suite is '../x'; expected lowercase"),
        (("started",), "../x", "started is '../x'; expected as ISO 8601"),
        (("seconds",), -1.0, "seconds is -1.0; expected 0 or more"),
    ],
)
def test_a_field_that_cannot_be_is_named(tmp_path, record, case, place, value, message):
    path = write_record(tmp_path / "r.json", record(case()))
    data = json.loads(path.read_text())
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(data))
    with pytest.raises(RecordError) as refused:
        read_record(path)
    assert f"{path}: " in str(refused.value)
    assert message in str(refused.value)


def test_a_missing_field_is_named(tmp_path, record, case):
    path = write_record(tmp_path / "r.json", record(case()))
    data = json.loads(path.read_text())
    del data["cases"][0]["timing"]["q1"]
    path.write_text(json.dumps(data))
    with pytest.raises(RecordError, match=r"cases\.0\.timing\.q1: is missing"):
        read_record(path)


def test_a_whole_number_is_a_float_too(tmp_path, record, case):
    path = write_record(tmp_path / "r.json", record(case(), seconds=5))
    seconds = read_record(path).seconds
    assert (seconds, type(seconds)) == (5.0, float)


def test_one_time_less_another_may_be_negative_now_and_then(tmp_path, record, case):
    alone = timing("cuda graph", [-0.1, 1.0, 1.0])
    path = write_record(tmp_path / "r.json", record(case(in_situ=alone)))
    assert read_record(path).cases[0].in_situ == alone


def test_older_versions_migrate_step_by_step(tmp_path, record, case, monkeypatch):
    path = write_record(tmp_path / "r.json", record(case()))
    data = json.loads(path.read_text())
    data["version"] = -1
    data["title"] = data.pop("suite")
    path.write_text(json.dumps(data))
    steps = {
        -1: lambda old: {**old, "version": 0},
        0: lambda old: {
            **{k: v for k, v in old.items() if k != "title"}, "suite": old["title"],
            "version": VERSION,
        },
    }  # fmt: skip
    monkeypatch.setattr(store, "MIGRATIONS", steps)
    assert read_record(path).suite == "iteration"


def test_version_2_is_read(tmp_path, record, case):
    path = write_record(tmp_path / "r.json", record(case()))
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    assert read_record(path) == record(case())


def test_version_1_is_read(tmp_path, record, case):
    path = write_record(tmp_path / "r.json", record(case(), roofs=[ROOF]))
    data = json.loads(path.read_text())
    del data["cases"][0]["in_situ"], data["roofs"][0]["timing"]
    path.write_text(json.dumps({**data, "version": 1}))
    assert read_record(path) == record(case(), roofs=[ROOF])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder of records"):
        load_records(tmp_path / "absent")


def test_the_published_schema_is_the_current_one():
    published = json.loads(schemas.PUBLISHED.read_text())
    assert published == schemas.schema(), "run: python -m stylebench.bench.records.schema"


def test_every_committed_record_is_valid():
    results = Path(__file__).parents[3] / "results"
    assert load_records(results)[1] == []


def test_records_are_read_and_written_without_any_extra(tmp_path, record, case, fresh_python):
    """A lent GPU's machine has torch and little else, and no record is worth less there."""
    path = write_record(tmp_path / "r.json", record(case()))
    script = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['pandas', 'rich', 'pydantic', 'psutil', 'cpuinfo'])\n"
        "from pathlib import Path\n"
        "from stylebench.bench.records.store import read_or_none, write_record\n"
        f"write_record(Path({str(tmp_path / 's.json')!r}), read_or_none(Path({str(path)!r})))"
    )
    fresh_python(script)
    assert read_record(tmp_path / "s.json") == read_record(path)


def test_what_is_no_record_is_none(tmp_path):
    (tmp_path / "r.json").write_text('{"version": 1}')
    assert read_or_none(tmp_path / "r.json") is None
    assert read_or_none(tmp_path / "absent.json") is None

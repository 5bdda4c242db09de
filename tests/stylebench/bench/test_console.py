"""A suite run from the command line: its file, its exit code, its pictures, going on with it."""

import json
import re
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from stylebench import signals
from stylebench.bench.records.store import read_record
from stylebench.bench.suites import console
from stylebench.bench.suites.base import Options
from stylebench.cli.bench import _typed

from .conftest import single


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run cases of the given work; return the exit code and the record in the file."""

    def call(*, resume=None, as_json=False, output=tmp_path, options=None, **work):
        class Fake:
            name = "smoke"

            def jobs(self, bench):
                for name, make in work.items():
                    yield single(name, {}, lambda make=make: make(bench))

        monkeypatch.setattr(console, "suite", lambda _: Fake())
        code = console.run_suite_in_console(
            "smoke", Options(**{"device": "cpu", **(options or {})}), output, as_json, resume
        )
        files = list((output or tmp_path).rglob("*.json"))
        return code, files[0] if files else None

    return call


def interrupt(_):
    raise KeyboardInterrupt


def draw(case, name):
    """Work that leaves a picture."""

    def work(bench):
        bench.folder.mkdir(parents=True, exist_ok=True)
        (bench.folder / f"{name}.png").write_bytes(b"png")
        return case(name, pictures={"output": f"{name}.png"})

    return work


def test_without_an_output_nothing_is_kept(run, case, capsys):
    assert run(a=lambda _: case("a"), output=None) == (0, None)
    assert "smoke on " in capsys.readouterr().out


def test_json_is_the_record_and_nothing_else(run, case, capsys):
    run(a=lambda _: case("a"), as_json=True, output=None)
    assert json.loads(capsys.readouterr().out)["suite"] == "smoke"


def test_ctrl_c_writes_an_incomplete_record_that_can_be_gone_on_with(run, case):
    code, path = run(a=lambda _: case("a"), b=interrupt, c=lambda _: case("c"))
    assert code == 130
    record = read_record(path)
    assert ([case.name for case in record.cases], record.complete) == (["a"], False)

    code, again = run(a=interrupt, b=lambda _: case("b"), c=lambda _: case("c"), resume=path)
    assert (code, again) == (0, path)
    record = read_record(path)
    assert ([case.name for case in record.cases], record.complete) == (["a", "b", "c"], True)


@pytest.mark.parametrize("as_json", [False, True])
def test_what_ends_before_its_first_case_leaves_no_record(run, capsys, as_json):
    assert run(a=interrupt, as_json=as_json) == (130, None)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("ended before the first case: there is no record\n")


def test_what_cannot_be_gone_on_with_is_named(run, tmp_path):
    with pytest.raises(ValueError, match="absent: no record that can be read here"):
        run(a=interrupt, resume=tmp_path / "absent")


def test_a_failed_case_is_exit_code_1_and_one_without_memory_is_not(run):
    def fail(error):
        def work(_):
            raise error

        return work

    assert run(a=fail(MemoryError()))[0] == 0
    assert run(a=fail(ValueError("no")))[0] == 1


def test_pictures_lie_in_a_folder_named_like_the_record(run, case):
    _, path = run(a=draw(case, "a"), b=draw(case, "b"))
    for each in read_record(path).cases:
        assert each.pictures["output"] == f"{path.stem}/{each.name}.png"
        assert (path.parent / each.pictures["output"]).read_bytes() == b"png"
    assert sorted(item.name for item in path.parent.iterdir()) == [path.stem, path.name]


def test_without_an_output_no_picture_is_named(run, case, capsys):
    def work(bench):
        assert bench.folder is None
        return case("a")

    assert run(a=work, output=None, as_json=True)[0] == 0
    assert json.loads(capsys.readouterr().out)["cases"][0]["pictures"] == {}


def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--output .*/file: cannot be written \(Not a direct"):
        run(a=lambda _: pytest.fail("ran"), output=tmp_path / "file")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "--size 0: expected a whole number of 1 to 65535 px"),
        ({"size": -3}, "--size -3: expected"),
        ({"size": 10**12}, "--size 1000000000000: expected"),
        ({"size": 1.5}, "--size 1.5: expected"),
        ({"size": 5}, "too small for relu5_1"),
        ({"seconds": 0}, "--seconds 0: expected a number above 0"),
        ({"seconds": -1.0}, "--seconds -1.0: expected"),
        ({"seconds": float("nan")}, "--seconds nan: expected"),
        ({"seconds": float("inf")}, "--seconds inf: expected"),
        ({"content": Path("absent.jpg")}, "absent.jpg: no such file"),
        ({"style": Path("absent.jpg")}, "absent.jpg: no such file"),
        ({"style": Path(__file__)}, "test_console.py: not an image"),
        ({"device": "nope"}, "device 'nope' cannot be used here"),
        ({"pattern": "nope"}, "no case of smoke matches 'nope'"),
        ({"pattern": ""}, "--filter '': expected a part of a case's name"),
        ({"size": 64, "weights": "nope"}, "unknown weights 'nope'"),
    ],
)
def test_nothing_is_made_before_all_is_checked(run, case, tmp_path, options, message):
    output = tmp_path / "out"
    options = {"weights": "random", **options}
    with pytest.raises(ValueError, match=re.escape(message)):
        run(a=lambda _: pytest.fail("ran"), output=output, options=options)
    assert not output.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_writes_what_there_is_and_leaves_nothing_else(run, case, number):
    def stop(_):
        signal.raise_signal(number)

    with signals.stoppable():
        code, path = run(a=draw(case, "a"), b=stop)
    assert code == 128 + number
    assert [case.name for case in read_record(path).cases] == ["a"]
    assert sorted(item.name for item in path.parent.iterdir()) == [path.stem, path.name]


def test_a_record_that_cannot_be_written_any_more_is_kept_elsewhere(
    run, case, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "out"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def spoil(_):
        shutil.rmtree(output)
        output.write_text("in the way")
        return case("b")

    with pytest.raises(OSError, match=r"; the record is in .*, without its pictures"):
        run(a=lambda _: case("a"), b=spoil, output=output)
    (path,) = tmp_path.glob("stylebench-record-*/*.json")
    assert [case.name for case in read_record(path).cases] == ["a", "b"]
    assert "the record so far cannot be written" in capsys.readouterr().err


def test_a_resumed_record_brings_no_file_from_outside_of_its_folder(run, case, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    _, path = run(a=draw(case, "a"), b=interrupt)
    data = json.loads(path.read_text())
    for name in ("../secret.png", str(tmp_path / "secret.png"), "../../secret.png"):
        data["cases"][0]["pictures"] = {"output": name}
        path.write_text(json.dumps(data))
        _, again = run(b=draw(case, "b"), a=interrupt, resume=path, output=tmp_path / "other")
        assert [each.name for each in again.with_suffix("").iterdir()] == ["b.png"]
        shutil.rmtree(tmp_path / "other")


def test_pictures_of_a_run_that_was_killed_stay_out_of_the_next_ones_record(run, case):
    _, path = run(a=draw(case, "a"))
    left = path.parent / ".pictures-killed"
    left.mkdir()
    (left / "stray.png").write_bytes(b"png")
    _, path = run(a=draw(case, "a"))
    assert [each.name for each in path.with_suffix("").iterdir()] == ["a.png"]


def test_a_filtered_run_leaves_the_full_record_of_the_day(run, case):
    _, path = run(a=draw(case, "a"), b=draw(case, "b"))
    run(b=draw(case, "b"))
    assert [each.name for each in read_record(path).cases] == ["a", "b"]
    other = path.with_name(f"{path.stem}-2.json")
    assert [each.name for each in read_record(other).cases] == ["b"]
    assert read_record(other).cases[0].pictures == {"output": f"{other.stem}/b.png"}
    assert (path.parent / path.stem / "b.png").is_file()
    assert (path.parent / other.stem / "b.png").is_file()

    def no_longer(_):
        raise ValueError("broken")

    run(a=draw(case, "a"), b=no_longer)  # all cases, but less of them than there was
    assert read_record(path).cases[1].status == "ok"


def test_a_full_run_takes_the_place_of_the_days_full_record(run, case):
    _, path = run(a=draw(case, "a"), b=draw(case, "b"))
    run(a=draw(case, "a"), b=draw(case, "b"), c=draw(case, "c"))
    assert sorted(each.name for each in path.parent.iterdir()) == [path.stem, path.name]
    record = read_record(path)
    assert [case.name for case in record.cases] == ["a", "b", "c"]
    assert all((path.parent / each.pictures["output"]).is_file() for each in record.cases)


def test_a_numbered_record_is_gone_on_with_in_its_place(run, case):
    _, path = run(a=lambda _: case("a"), b=lambda _: case("b"))
    other = path.with_name(f"{path.stem}-2.json")
    run(c=lambda _: case("c"), d=interrupt)
    run(c=interrupt, d=lambda _: case("d"), resume=other)
    assert sorted(each.name for each in path.parent.iterdir()) == sorted([path.name, other.name])
    assert [each.name for each in read_record(other).cases] == ["c", "d"]


def test_going_on_elsewhere_takes_the_pictures_along(run, case, tmp_path):
    _, path = run(a=draw(case, "a"), b=interrupt, output=tmp_path / "first")
    _, again = run(a=interrupt, b=draw(case, "b"), resume=path, output=tmp_path / "second")
    for each in read_record(again).cases:
        assert (again.parent / each.pictures["output"]).read_bytes() == b"png"
    assert (path.parent / path.stem / "a.png").is_file()


def test_the_command_of_a_record_can_be_pasted(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/x/__main__.py", "bench", "parity", "--filter", "fused *"])
    assert _typed() == "stylebench bench parity --filter 'fused *'"

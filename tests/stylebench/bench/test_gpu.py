"""The command for a lent GPU, rehearsed on the CPU."""

import gzip
import json
import os
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import typer

from stylebench.bench.gpu import loan, stages
from stylebench.bench.gpu.stages import ROOT, Stage, begun, run_stage
from stylebench.bench.records.store import file_name, write_record
from stylebench.cli.app import app


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path, capsys):
    assert loan.main(["--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_help_names_the_command(capsys):
    with pytest.raises(SystemExit):
        loan.main(["--help"])
    assert capsys.readouterr().out.startswith("usage: python -m stylebench.bench.gpu ")


@pytest.mark.slow  # a suite in a process of its own
def test_a_rehearsal_runs_a_suite(tmp_path, capsys):
    call = ["--output", str(tmp_path), "--rehearse", "--minutes", "9", "--stages", "smoke"]
    assert loan.main(call) == 0
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["smoke"]["verdict"] == "done"
    with tarfile.open(tmp_path / "records.tar.gz") as archive:
        names = archive.getnames()
    assert any(name.endswith("-smoke-quick.json") for name in names)
    assert "fused fp32 48x36: " in capsys.readouterr().out


def test_a_rehearsal_packs_what_its_stages_leave(tmp_path, capsys, record, case, monkeypatch):
    path = write_record(tmp_path / "made" / "r.json", record(case(), suite="smoke"))
    real = {stage.name: stage for stage in stages.stages(rehearse=True, quick=True)}

    def command(work, left):  # leaves the record where the suite would
        text = f"import shutil; shutil.copytree({str(path.parent)!r}, {str(work / 'records')!r})"
        return ["-c", text]

    table = [Stage("smoke", 30, command), real["environment"]]
    monkeypatch.setattr(loan, "stages", lambda *_: table)
    out = tmp_path / "out"
    call = ["--output", str(out), "--rehearse", "--stages", "smoke"]
    assert loan.main(call) == 0
    assert sorted(file.name for file in out.iterdir()) == [
        "records.tar.gz", "state.json", "summary.txt"
    ]  # fmt: skip
    assert json.loads((out / "state.json").read_text())["smoke"]["verdict"] == "done"
    with tarfile.open(out / "records.tar.gz") as archive:
        names = archive.getnames()
    assert {"logs/smoke.log", "records/r.json"} < set(names)
    assert "fused fp32 64x48: 1 s" in capsys.readouterr().out

    again = tmp_path / "again"
    resume = str(out / "records.tar.gz")
    assert loan.main(["--output", str(again), *call[2:], "--resume", resume]) == 0
    shown = capsys.readouterr().out
    assert "..." not in shown  # nothing was run
    assert "fused fp32 64x48: 1 s" in shown


def packed(path, **files):
    """An archive with files of these texts."""
    folder = path.with_name(f"{path.name}-files")
    folder.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            (folder / name).write_text(text)
            archive.add(folder / name, f"{name}.json")


def leading_out(path):
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))


def unpacking_to_a_lot(path):
    member = tarfile.TarInfo("large")
    member.size = 2**40
    path.write_bytes(gzip.compress(member.tobuf()))


ARCHIVES = {
    "nothing": (lambda path: None, "no such file"),
    "a folder": (Path.mkdir, "is a folder"),
    "a pipe": (os.mkfifo, "is a named pipe"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "an empty file": (Path.touch, "is empty"),
    "a text": (lambda path: path.write_text("hello"), "is no archive of an earlier call"),
    "half a file": (lambda path: path.write_bytes(gzip.compress(b"a" * 999)[:20]), "is no archive"),
    "one that leads out": (leading_out, "is no archive"),
    "one that is large": (unpacking_to_a_lot, "is no archive of an earlier call"),
    **{
        f"a state of {text}": (lambda path, text=text: packed(path, state=text), "state.json of th")
        for text in (
            "{",
            "[]",
            "3",
            '{"a": 3}',
            '{"a": {"verdict": "fine"}}',
            '{"a": {"tries": "1"}}',
        )
    },
}


@pytest.mark.parametrize(("make", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_what_is_no_archive_is_one_line(tmp_path, capsys, make, message):
    make(tmp_path / "records.tar.gz")
    out = tmp_path / "out"
    call = ["--output", str(out), "--rehearse", "--resume", str(tmp_path / "records.tar.gz")]
    assert loan.main(call) == 2
    line = capsys.readouterr().err
    assert line.startswith("stylebench.bench.gpu: error: ")
    assert message in line
    assert line.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--stages", "x"], "unknown stages x: expected environment"),
        (["--minutes", "nan"], "--minutes nan: expected a number above 0"),
        (["--minutes", "-1"], "--minutes -1.0: expected a number above 0"),
        (["--minutes", "inf"], "--minutes inf: expected a number above 0"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(tmp_path, capsys, more, message):
    assert loan.main(["--output", str(tmp_path / "out"), "--rehearse", *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_is_kept_elsewhere(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(loan, "stages", lambda *_: [script(f"import os; os.rmdir({str(out)!r})")])
    assert loan.main(["--output", str(out), "--rehearse"]) == 2
    (archive,) = tmp_path.glob("stylebench-records-*/records.tar.gz")
    assert f"all is in {archive}" in capsys.readouterr().err
    with tarfile.open(archive) as content:
        assert {"logs/try.log", "state.json"} < set(content.getnames())


def script(text, limit=30.0):
    return Stage("try", limit, lambda *_: ["-c", text])


def test_a_failing_stage_does_not_stop_the_others(tmp_path, monkeypatch):
    broken = Stage("broken", 9, lambda *_: 1 / 0)
    failing = Stage("failing", 30, lambda *_: ["-c", "raise SystemExit(3)"])
    monkeypatch.setattr(loan, "stages", lambda *_: [broken, failing, script("print('here')")])
    assert loan.main(["--output", str(tmp_path), "--rehearse"]) == 0
    state = json.loads((tmp_path / "state.json").read_text())
    assert [entry["verdict"] for entry in state.values()] == ["failed", "failed", "done"]
    assert "ZeroDivisionError" in state["broken"]["note"]


def test_a_stage_past_its_limit_may_write_down_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "_MERCY", 8.0)
    text = (
        "import time\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: print('written down', flush=True)"
    )
    assert run_stage(script(text), tmp_path, left=10.0) == "unfinished"
    assert "written down" in (tmp_path / "logs" / "try.log").read_text()


def test_a_stage_that_was_stopped_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "_MERCY", 1.0)
    slow = Stage("slow", 2.0, lambda *_: ["-c", "import time; time.sleep(30)"])
    monkeypatch.setattr(loan, "stages", lambda *_: [slow])
    for tries in (1, 2):
        assert loan.main(["--output", str(tmp_path), "--rehearse"]) == 0
        entry = json.loads((tmp_path / "state.json").read_text())["slow"]
        assert (entry["verdict"], entry["tries"]) == ("unfinished", tries)


def test_what_suites_need_is_tuned_before_them_and_all_else_after():
    table = stages.stages(rehearse=False, quick=False)
    names = [stage.name for stage in table]
    before, after = table[: names.index("smoke")], table[names.index("stylize") + 1 :]
    (first,) = (stage for stage in before if stage.name.startswith("tune"))
    assert len({stage.name for stage in after}) == 6
    assert first.name == after[0].name == "tune 512 float16"
    assert 90 < first.limit < after[0].limit  # where it was cut short, it has more time at the end


@pytest.mark.parametrize("number", [1, 2])
def test_stages_hand_suites_their_unfinished_records(tmp_path, record, case, number):
    table = {stage.name: stage for stage in stages.stages(rehearse=False, quick=False)}
    assert "--resume" not in table["iteration"].command(tmp_path, 100)
    unfinished = record(case(), complete=False)
    path = write_record(tmp_path / "records" / file_name(unfinished, number), unfinished)
    assert begun(tmp_path, "iteration") == path
    assert str(path) in table["iteration"].command(tmp_path, 100)
    assert table["iteration"].result(tmp_path, 0) == "unfinished"
    write_record(path, record(case()))
    assert table["iteration"].result(tmp_path, 1) == "done"
    assert begun(tmp_path, "iteration") is None


@pytest.mark.parametrize("rehearse", [False, True])
def test_every_stage_has_a_command_that_there_is(tmp_path, record, case, rehearse):
    """Modules that can be found, test files that exist, and options that the suites know."""
    for name in stages.SUITES:  # each is to go on with its record
        unfinished = record(case(), suite=name, complete=False)
        write_record(tmp_path / "records" / file_name(unfinished), unfinished)
    bench = typer.main.get_command(app).commands["bench"]
    for stage in stages.stages(rehearse, quick=rehearse):
        flag, module, *arguments = stage.command(tmp_path, 60.0)
        assert (flag, find_spec(module) is None) == ("-m", False), stage.name
        for path in [word for word in arguments if word.startswith("tests/")]:
            assert (ROOT / path).exists(), f"{stage.name}: {path}"
        if arguments[0] == "bench":
            options = bench.commands[arguments[1]].make_context(stage.name, arguments[2:]).params
            assert options["resume"] is not None


def test_a_rehearsal_has_the_stages_of_the_real_thing():
    real, rehearsed = (stages.stages(rehearse, quick=True) for rehearse in (False, True))
    assert [stage.name for stage in real] == [stage.name for stage in rehearsed]
    assert {stage.name for stage in real} >= set(stages.SUITES)

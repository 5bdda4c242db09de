"""The stages on a lent GPU: their order, their commands, and the records they go on with."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from stylebench.bench.gpu import loan, stages
from stylebench.bench.gpu.stages import ROOT, begun, run_stage
from stylebench.bench.records.store import file_name, write_record
from stylebench.cli.app import app

from .conftest import of_now, script


def test_the_headline_comes_first_and_the_tests_last():
    table = stages.stages(rehearse=False, quick=False)
    names = [stage.name for stage in table]
    assert names[:6] == [
        "environment", "smoke", "headline", "kernels", "tune 512 float16", "iteration"
    ]  # fmt: skip
    assert names[-2:] == ["tests of stylekernels", "tests of stylebench"]
    limits = [stage.limit for stage in table[:5]]
    assert sum(limits[:2]) + loan._LEAST < 3 * 60  # a call of three minutes comes to the headline
    assert sum(limits[:3]) < 9 * 60  # and one of nine gives it all its time


def test_what_suites_need_is_tuned_before_them_and_all_else_after():
    table = stages.stages(rehearse=False, quick=False)
    names = [stage.name for stage in table]
    before, after = table[: names.index("iteration")], table[names.index("stylize") + 1 : -2]
    (first,) = (stage for stage in before if stage.name.startswith("tune"))
    assert len({stage.name for stage in after}) == 6
    assert first.name == after[0].name == "tune 512 float16"
    assert 90 < first.limit < after[0].limit  # where it was cut short, it has more time at the end


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("name", "folder"), [("iteration", "records"), ("headline", "headline")])
def test_stages_hand_suites_their_unfinished_records(tmp_path, record, case, number, name, folder):
    stage = {s.name: s for s in stages.stages(rehearse=False, quick=False)}[name]
    assert "--resume" not in stage.command(tmp_path, 100)
    unfinished = of_now(record, case(), suite="iteration", complete=False)
    path = write_record(tmp_path / folder / file_name(unfinished, number), unfinished)
    assert begun(tmp_path / folder, "iteration") == path
    assert str(path) in stage.command(tmp_path, 100)
    assert stage.result(tmp_path, 0) == "unfinished"
    write_record(path, of_now(record, case(), suite="iteration"))
    assert stage.result(tmp_path, 1) == "done"
    assert begun(tmp_path / folder, "iteration") is None


def test_the_headline_is_the_first_job_alone_in_a_record_of_its_own(tmp_path):
    table = {stage.name: stage for stage in stages.stages(rehearse=False, quick=False)}
    headline, whole = (table[name].command(tmp_path, 100) for name in ("headline", "iteration"))
    assert headline[2:4] == whole[2:4] == ["bench", "iteration"]
    assert headline[-2:] == ["--first", "1"]
    assert "--first" not in whole
    assert str(tmp_path / "headline") in headline
    assert str(tmp_path / "records") in whole


def test_records_of_other_code_or_another_gpu_are_left_as_they_are(
    tmp_path, record, case, monkeypatch
):
    stage = {s.name: s for s in stages.stages(rehearse=False, quick=False)}["smoke"]
    others = record(case(), suite="smoke", complete=False), record(case(), suite="smoke")
    for number, other in enumerate(others, 1):
        write_record(tmp_path / "records" / file_name(other, number), other)
    assert "--resume" not in stage.command(tmp_path, 100)
    assert stage.result(tmp_path, 0) == "unfinished"
    ours = of_now(record, case())
    write_record(tmp_path / "records" / file_name(ours, 3), ours)
    assert stage.result(tmp_path, 0) == "done"
    monkeypatch.setattr(stages, "_gpu", lambda: "NVIDIA H200")
    assert stage.result(tmp_path, 0) == "unfinished"


def test_configurations_are_those_of_the_same_kernels(tmp_path, monkeypatch):
    tune = next(s for s in stages.stages(rehearse=False, quick=False) if s.name.startswith("tune"))
    folder = Path(tune.command(tmp_path, 100)[-1])
    assert folder.parent == tmp_path / "configs"
    show = f"import os; assert os.environ['STYLEKERNELS_CONFIGS'] == {str(folder)!r}"
    assert run_stage(script(show), tmp_path, 30.0) == "done"
    monkeypatch.setattr(stages, "sources_hash", lambda _: "f" * 64)
    assert Path(tune.command(tmp_path, 100)[-1]) != folder


@pytest.mark.parametrize("rehearse", [False, True])
def test_every_stage_has_a_command_that_there_is(tmp_path, record, case, rehearse):
    """Modules that can be found, test files that exist, and options that the suites know."""
    for name in stages.SUITES:  # each is to go on with its record
        unfinished = of_now(record, case(), suite=name, complete=False)
        for folder in ("records", "headline"):
            write_record(tmp_path / folder / file_name(unfinished), unfinished)
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

"""Two runs compared: each verdict, the gate for CI, another revision."""

import json
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stylebench.bench.compare import differences as differences_module
from stylebench.bench.compare import worktree
from stylebench.bench.compare.differences import (
    differences,
    failures,
    percentage,
    print_comparison,
    ratio_interval,
)
from stylebench.bench.compare.worktree import checked_out
from stylebench.bench.records.record import Case, Code, Machine, Parity, RecordedCheck
from stylebench.bench.records.store import write_record
from stylebench.bench.suites.base import Options
from stylebench.cli.app import main

from .conftest import PASSED


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(differences_module, "_RESAMPLES", 300)


def around(center, width, count=40, seed=0):
    return list(np.random.default_rng(seed).normal(center, width, count))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (around(1, 0.01), around(0.8, 0.01, seed=1), "FASTER"),
        (around(1, 0.01), around(1.2, 0.01, seed=1), "SLOWER"),
        (around(1, 0.01), around(1, 0.01, seed=1), "SAME"),
        (around(1, 0.3), around(1.02, 0.3, seed=1), "UNCLEAR"),
        ([1.0, 1.0], [2.0, 2.0], "UNCLEAR"),  # two samples prove nothing
    ],
)
def test_the_interval_of_the_ratio_decides(record, case, before, after, expected):
    runs = [record(case(samples=before))], [record(case(samples=after))]
    (found,) = differences(*runs)
    assert found.verdict == expected
    assert found.low <= found.ratio <= found.high


def test_mostly_disturbed_samples_prove_nothing(record, case):
    calm, busy = case(samples=[1.0] * 9), case(samples=[2.0] * 9, disturbed=range(8))
    (found,) = differences([record(calm)], [record(busy)])
    assert found.verdict == "UNCLEAR"


def test_cases_are_matched_by_suite_and_name(record, case):
    before = [record(case("a"), case("b"), case("c", samples=()))]
    after = [record(case("a"), case("c")), record(case("b"), suite="kernels")]
    found = {each.case: each.verdict for each in differences(before, after)}
    assert found == {
        "iteration: a": "SAME",
        "iteration: b": "ONLY BEFORE",
        "iteration: c": "NO TIME",
        "kernels: b": "ONLY AFTER",
    }


def test_runs_that_disagree_among_themselves_widen_the_interval():
    one = ratio_interval([around(1, 0.01)], [around(1.1, 0.01, seed=1)])
    several = ratio_interval(
        [around(1, 0.01), around(1.3, 0.01)], [around(1.1, 0.01), around(1.0, 0.01)]
    )
    assert one[0] > 1
    assert several[0] < 1 < several[1]


def test_only_what_is_surely_and_far_slower_fails(record, case):
    before = [record(case("a", around(1, 0.01)), case("b", around(1, 0.01)))]
    after = [record(case("a", around(1.04, 0.001)), case("b", around(1.1, 0.01)))]
    found = differences(before, after)
    assert failures(found, 0.05) == ["slower than allowed: iteration: b"]


def test_a_time_that_is_lost_fails(record, case):
    before = [record(case("a"), case("b"), case("c"), case("d", samples=()))]
    lost = Case(
        "b", {}, "parity failed", parity=Parity("x", [RecordedCheck("loss", 2.0, 1.0, False)])
    )
    found = differences(before, [record(case("a"), lost)])
    assert failures(found, 0.05) == [
        "no time any more: iteration: b (after: parity failed)",
        "no time any more: iteration: c (not run)",
    ]


@pytest.mark.parametrize("before", [[], ["a"]])
def test_nothing_compared_fails(record, case, before):
    cases = [case(name, samples=()) for name in before]
    found = differences([record(*cases)], [record(case("a"))])
    assert failures(found, 0.05) == ["nothing was compared: no case has a time in both runs"]


def descent(seconds, **values):
    given = {f"seconds_to_{mark}": value for mark, value in seconds.items()}
    return Case("a", {}, parity=PASSED, values={**given, "target_300": 9.0, **values})


def found_of(record, before, after):
    runs = [[record(each, suite="time-to-loss") for each in side] for side in (before, after)]
    return {each.case.partition(", ")[2]: each for each in differences(*runs)}


def test_single_times_to_a_loss_are_told_apart_only_where_they_are_far_apart(record):
    before = descent({100: 1.0, 200: 2.0, "300_plus_0.5_percent": 3.0, 300: 4.0})
    after = descent({100: 1.04, 200: 2.2, "300_plus_0.5_percent": 2.7})
    found = found_of(record, [before], [after])
    assert {name: each.verdict for name, each in found.items()} == {
        "seconds_to_100": "UNCLEAR",
        "seconds_to_200": "SLOWER",
        "seconds_to_300_plus_0.5_percent": "FASTER",
        "seconds_to_300": "NO TIME",
    }
    assert found["seconds_to_200"].low is None
    assert "no interval" in found["seconds_to_200"].remark
    assert failures(list(found.values()), 0.05) == [
        "slower than allowed: time-to-loss: a, seconds_to_200",
        "no time any more: time-to-loss: a, seconds_to_300 (not reached)",
    ]


def test_several_runs_to_a_loss_have_an_interval(record):
    before = [descent({300: seconds}) for seconds in (1.0, 1.01, 0.99)]
    after = [descent({300: seconds}) for seconds in (1.04, 1.05, 1.06)]
    (found,) = found_of(record, before, after).values()
    assert found.verdict == "SLOWER"
    assert 1 < found.low < found.ratio < found.high


def test_other_weights_are_another_case(record, case):
    usual, pretrained = (
        replace(case("a"), parameters={"weights": weights}) for weights in ("original", "imagenet")
    )
    found = differences([record(usual), record(pretrained)], [record(pretrained)])
    assert {each.case: each.verdict for each in found} == {
        "iteration: a": "ONLY BEFORE", "iteration: a, weights imagenet": "SAME"
    }  # fmt: skip


def test_what_failed_its_proof_has_no_time_to_a_loss(record):
    failed = Parity("x", [RecordedCheck("loss", 2.0, 1.0, False)])
    wrong = Case("a", {}, "parity failed", parity=failed)
    (found,) = found_of(record, [descent({300: 1.0})], [wrong]).values()
    assert (found.verdict, found.remark) == ("NO TIME", "after: parity failed")


@pytest.mark.parametrize(
    "text", ["5", "five%", "-5%", "%", "nan%", "inf%", "9" * 400 + "%", "1e3%", "\u0665%"]
)
def test_a_limit_is_a_percentage(text):
    assert percentage("5%") == 0.05
    with pytest.raises(ValueError, match=r"is no percentage; expected 5%"):
        percentage(text)


def test_json_has_no_infinities(record, case, capsys):
    assert print_comparison(
        [record(case(samples=[1.0]))], [record(case(samples=[1.0]))], 0.05, True
    )
    shown = json.loads(capsys.readouterr().out)
    assert shown["passed"] is True
    assert shown["cases"][0]["high"] is None


def test_json_tells_what_the_table_tells(record, case, capsys):
    other = record(case(), machine=Machine("Another", "another", "cpu"))
    assert not print_comparison([record(case("a")), record(case("b"))], [other], 0.05, True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["remark"] == "not on the same machine"
    assert shown["failures"][-1] == "nothing was compared: no case has a time in both runs"


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["stylebench", "bench", "compare", *arguments])
        monkeypatch.setattr("warnings.showwarning", None)
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return run


def test_the_command_compares_files_and_folders(tmp_path, record, case, call):
    old = write_record(tmp_path / "old.json", record(case(samples=around(1, 0.01))))
    write_record(tmp_path / "new" / "x.json", record(case(samples=around(1.5, 0.01))))
    code, out, _ = call(str(old), str(tmp_path / "new"), "--fail-slower", "5%")
    assert code == 1
    assert "SLOWER" in out
    assert "slower than allowed: iteration: fused fp32 64x48" in out
    assert call(str(old), str(tmp_path / "new"))[0] == 0
    assert call(str(old), str(old), "--fail-slower", "5%")[0] == 0


def test_the_command_names_what_it_misses(tmp_path, call):
    assert "expected two records" in call()[2]
    assert "holds no record" in call(str(tmp_path), str(tmp_path))[2]
    assert "--base HEAD measures both sides itself" in call("a", "b", "--base", "HEAD")[2]


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """A run of a suite in another tree that leaves ``left`` and ends with ``code``."""

    def run(code, left):
        class Process:
            returncode = code

            def communicate(self):
                return "", "some\nmessage"

        @contextmanager
        def call(command, **_):
            path = Path(command[command.index("--output") + 1]) / "a.json"
            path.parent.mkdir(parents=True)
            if isinstance(left, str):
                path.write_text(left)
            elif left:
                write_record(path, left)
            yield Process()

        monkeypatch.setattr(worktree, "child_process", call)
        worktree._run(tmp_path, "iteration", Options(), tmp_path / "output")

    return run


def test_a_run_in_another_tree_may_have_failed_cases(ended, record, case):
    ended(1, record(case()))


@pytest.mark.parametrize(
    ("code", "more", "message"),
    [
        (-9, {}, "'iteration' ended with -9: message"),
        (1, {"complete": False}, "cannot run the suite 'iteration': message"),
        (0, None, "cannot run the suite 'iteration': message"),
        (0, "{", "cannot be read as JSON"),
    ],
)
def test_a_run_in_another_tree_that_did_not_end_is_an_error(
    ended, record, case, code, more, message
):
    left = record(case(), **more) if isinstance(more, dict) else more
    with pytest.raises(ValueError, match=message):
        ended(code, left)


@pytest.fixture
def repository(tmp_path):
    """A repository of a package that writes records of its own sources, and one commit without."""

    def git(*arguments):
        subprocess.run(
            ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            check=True, capture_output=True,
        )  # fmt: skip

    folder = tmp_path / "clone"
    folder.mkdir()
    git("init", "-q")
    (folder / "file").write_text("old")
    git("add", "file")
    git("commit", "-q", "-m", "without the packages")
    git("tag", "bare")
    for package in ("stylebench", "kernels/stylekernels"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("")
    git("add", ".")
    git("commit", "-q", "-m", "with the packages")
    (folder / "file").write_text("new")
    return folder


def test_another_revision_is_checked_out_and_removed(repository):
    with checked_out(repository, "HEAD") as tree:
        assert (tree / "file").read_text() == "old"
    assert not tree.exists()
    listed = ["git", "-C", str(repository), "worktree", "list"]
    done = subprocess.run(listed, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "revision",
    ["nowhere", "--force", "--lock", "-b", "", "^HEAD", "HEAD..HEAD", "HEAD:file", "a b"],
)
def test_what_is_no_revision_is_refused_by_name(repository, revision):
    with pytest.raises(ValueError, match=r"^--base .*: is no revision of .*clone; expected a com"):
        worktree.commit_of(repository, revision)


def test_a_folder_within_another_repository_is_none(repository):
    with pytest.raises(ValueError, match="is no git repository of its own"):
        worktree.commit_of(repository / "kernels", "HEAD")


@pytest.fixture
def against(monkeypatch, repository, record, case):
    """Measure a revision, where each run says that it measured the sources of ``measured``."""

    def run(revision, measured=lambda root: root):
        def fake(root, suite, options, output):
            code = Code(None, None, worktree.packages_hash(measured(root)))
            write_record(output / "a.json", record(case(), code=code))

        monkeypatch.setattr(worktree, "_run", fake)
        monkeypatch.setattr(worktree.stylebench, "__file__", str(repository / "stylebench" / "x"))
        return worktree.measured_against(revision, "iteration", Options(), 2)

    return run


def test_each_side_is_measured_as_often_as_asked(against):
    assert [len(side) for side in against("HEAD")] == [2, 2]


def test_a_revision_without_the_packages_is_refused(against):
    with pytest.raises(ValueError, match="--base bare: has no package stylebench"):
        against("bare")


def test_a_run_of_other_sources_than_the_revisions_is_refused(against, repository):
    (repository / "stylebench" / "new.py").write_text("")
    assert len(against("HEAD")[0]) == 2
    with pytest.raises(ValueError, match="a run of revision HEAD measured other sources than"):
        against("HEAD", measured=lambda _: repository)


def test_an_unknown_suite_or_number_is_refused_before_git_is_asked():
    with pytest.raises(ValueError, match="unknown suite 'x'"):
        worktree.measured_against("HEAD", "x", Options(), 1)
    with pytest.raises(ValueError, match="--size 0: expected"):
        worktree.measured_against("HEAD", "smoke", Options(size=0), 1)


@pytest.mark.parametrize("suite", ["iteration", "kernels"])
def test_a_filter_that_matches_nothing_is_refused_before_git_is_asked(monkeypatch, suite):
    monkeypatch.setattr(worktree, "commit_of", lambda *_: pytest.fail("asked"))
    options = Options(pattern="nosuchcase", device="cpu")
    with pytest.raises(ValueError, match=f"no case of {suite} matches 'nosuchcase'"):
        worktree.measured_against("HEAD", suite, options, 1)


def test_a_file_that_was_left_out_fails(tmp_path, record, case, call):
    write_record(tmp_path / "a.json", record(case()))
    assert call(str(tmp_path), str(tmp_path), "--fail-slower", "5%")[0] == 0
    (tmp_path / "b.json").write_text("{")
    assert call(str(tmp_path), str(tmp_path))[0] == 0
    code, out, err = call(str(tmp_path), str(tmp_path), "--fail-slower", "5%")
    assert code == 1
    assert "left out: " in out
    assert "b.json: cannot be read as JSON" in err


def test_brackets_in_a_name_are_no_markup(tmp_path, record, case, call):
    path = str(write_record(tmp_path / "a.json", record(case("a[/b] :smile:"))))
    assert "a[/b] :smile:" in call(path, path)[1]

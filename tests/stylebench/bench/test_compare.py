"""Two runs compared: each verdict, the gate for CI, another revision."""

import json
import subprocess

import numpy as np
import pytest

from stylebench.bench.compare import (
    compare_visibly,
    differences,
    percentage,
    ratio_interval,
    slower_by,
)
from stylebench.bench.store import write_record
from stylebench.bench.worktree import checked_out
from stylebench.cli import main


def around(centre, width, count=40, seed=0):
    return list(np.random.default_rng(seed).normal(centre, width, count))


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
    assert [each.case for each in slower_by(found, 0.05)] == ["iteration: b"]


@pytest.mark.parametrize("text", ["5", "five%", "-5%", "%"])
def test_a_limit_is_a_percentage(text):
    assert percentage("5%") == 0.05
    with pytest.raises(ValueError, match=r"is no percentage; expected 5%"):
        percentage(text)


def test_json_has_no_infinities(record, case, capsys):
    assert compare_visibly([record(case(samples=[1.0]))], [record(case(samples=[1.0]))], 0.05, True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["passed"] is True
    assert shown["cases"][0]["high"] is None


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


def test_another_revision_is_checked_out_and_removed(tmp_path):
    def git(*arguments):
        subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            check=True, capture_output=True,
        )  # fmt: skip

    git("init", "-q")
    (tmp_path / "file").write_text("old")
    git("add", "file")
    git("commit", "-q", "-m", "old")
    (tmp_path / "file").write_text("new")
    with checked_out(tmp_path, "HEAD") as tree:
        assert (tree / "file").read_text() == "old"
    assert not tree.exists()
    with pytest.raises(ValueError, match="git worktree add"), checked_out(tmp_path, "nowhere"):
        pass

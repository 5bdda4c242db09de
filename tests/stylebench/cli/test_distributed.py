"""``--distributed``: one command in several processes, of which the first writes and reports."""

import os
import signal
import sys
import time

import pytest
from PIL import Image

from stylebench.cli.app import main
from stylebench.image.save import read_parameters

from ..processes.launch import launched

LIMIT = 120  # s
QUICK = [
    "--weights", "random", "--size", "48", "--device", "cpu", "--engine", "fused", "--precision",
    "fp32", "--style-layers", "relu1_1", "--content-layers", "relu1_1", "--scales", "none",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, photo, painting):
    photo.save(tmp_path / "photo.png")
    painting.save(tmp_path / "painting.png")
    return tmp_path


def command(*more):
    return ["-m", "stylebench", "stylize", "photo.png", "painting.png", *QUICK, *more]


def both(folder, *more):
    """Exit codes and output of a command in two processes."""
    with launched(2, command("--distributed", *more), cwd=folder) as started:
        said = [process.communicate(timeout=LIMIT)[0] for process in started]
        return [process.returncode for process in started], said


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def errors(text):
    return [line for line in text.splitlines() if line.startswith("stylebench: error")]


@pytest.mark.slow
def test_the_first_process_alone_writes_and_reports(folder):
    codes, (first, second) = both(
        folder, "-n", "4", "-o", "out.png", "--preview-every", "2", "--losses", "losses.csv",
        "--checkpoint", "run.ck",
    )  # fmt: skip
    assert codes == [0, 0]
    assert "2 processes" in first
    assert "out.png: loss" in first
    assert second == ""
    made = {path.name for path in folder.iterdir()} - {"photo.png", "painting.png"}
    assert made == {"out.png", "out-00002.png", "out-00004.png", "losses.csv", "run.ck"}
    assert size_of(folder / "out.png") == (48, 32)
    parameters = read_parameters(folder / "out.png")
    assert (parameters["distributed"], parameters["processes"]) == (True, 2)


@pytest.mark.slow
def test_a_dry_run_tells_the_memory_of_each_process(folder):
    codes, (first, second) = both(folder, "--dry-run")
    assert codes == [0, 0]
    assert "of each of 2 processes, with a band of the picture's rows" in first
    assert second == ""


@pytest.mark.slow
def test_bad_input_is_one_line(folder):
    codes, (first, second) = both(folder, "--iterations", "0")
    assert codes == [2, 2]
    assert errors(first) == [
        "stylebench: error: --iterations is 0: expected a whole number of 1 or more"
    ]
    assert second == ""


@pytest.mark.slow
def test_what_one_process_alone_can_do_is_refused_in_one_line(folder):
    codes, (first, second) = both(folder, "--view")
    assert codes == [2, 2]
    assert errors(first) == [
        "stylebench: error: --view is of one process: drop it, or --distributed"
    ]
    assert second == ""


@pytest.mark.slow
def test_what_the_first_process_alone_finds_is_one_line(folder):
    codes, (first, second) = both(folder, "-o", "photo.png")
    assert codes == [2, 2]
    (line,) = errors(first)
    assert line.startswith("stylebench: error: -o photo.png: is the content")
    assert second == ""


def wait_for(path):
    until = time.monotonic() + LIMIT
    while not path.exists():
        assert time.monotonic() < until, f"there is no {path}"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_all_with_a_line_that_names_it(folder, killed):
    more = "--distributed", "-n", "100000", "--checkpoint", "run.ck", "--checkpoint-every", "2"
    with launched(2, command(*more), cwd=folder) as started:
        wait_for(folder / "run.ck")
        started[killed].kill()
        said = started[1 - killed].communicate(timeout=LIMIT)[0]
        assert started[1 - killed].returncode == 2
    (line,) = errors(said)
    assert line.startswith(f"stylebench: error: rank {killed}: is gone: it was killed")
    with launched(1, command("-n", "20000", "--resume", "run.ck", "--dry-run"), cwd=folder) as one:
        assert "it fits" in one[0].communicate(timeout=LIMIT)[0]
    assert (folder / "run.ck").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_a_signal_keeps_the_best_image(folder):
    more = "--distributed", "-n", "100000", "--checkpoint", "run.ck", "--checkpoint-every", "2"
    with launched(2, command(*more), cwd=folder) as started:
        wait_for(folder / "run.ck")
        for process in started:
            os.kill(process.pid, signal.SIGTERM)
        first, second = (process.communicate(timeout=LIMIT)[0] for process in started)
        assert [process.returncode for process in started] == [143, 143]
    assert "interrupted; the best image so far is in out.png" in first
    assert second == ""
    assert size_of(folder / "out.png") == (48, 32)


MISTYPED = [
    ["stylize", "photo.png", "painting.png", "--distributed", "--nope"],
    ["stylize", "photo.png", "--distributed"],
    ["stylize", "", "painting.png", "--distributed"],
    ["stylize", "photo.png", "painting.png", "--distributed", "--device", "cuda:1"],
    ["stylise", "photo.png", "painting.png", "--distributed"],
    ["photo.png", "painting.png", "--distributed"],
    ["batch", "photo.png", "--style", "painting.png", "--size", "0"],
    ["batch", "-", "--style", "painting.png"],
]


@pytest.mark.parametrize("arguments", MISTYPED)
def test_what_is_mistyped_is_told_by_the_first_process_alone(
    monkeypatch, capsys, folder, arguments
):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["stylebench", *arguments])
    common = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    for name, value in common.items():
        monkeypatch.setenv(name, value)
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        said.append(capsys.readouterr().err)
    assert (said[0].count("\n"), said[1]) == (1, "")


def test_a_rank_that_torchrun_has_not_set_silences_nobody(monkeypatch, capsys, folder):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("sys.argv", ["stylebench", "stylize", "--nope"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == "stylebench: error: No such option: --nope\n"


def test_without_torchrun_a_line_shows_the_command(monkeypatch, capsys, folder):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["stylebench", *command("--distributed")[2:]])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "stylebench: error: --distributed: RANK is not set, which torchrun sets: start the command "
        "as 'torchrun --nproc-per-node 2 -m stylebench stylize CONTENT STYLE --distributed'"
    )

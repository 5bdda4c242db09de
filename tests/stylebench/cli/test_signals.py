"""Signals: the run ends with its best image saved, and nothing is torn."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from stylebench import signals
from stylebench.cli import _unraisable, interrupted
from stylebench.image.save import read_parameters, save_image
from stylebench.transfer.result import Result

MANY = [
    "--weights", "random", "--size", "32", "--iterations", "100000", "--device", "cpu",
    "--precision", "fp32",
]  # fmt: skip
FEW = ["--iterations", "3"]


@pytest.fixture
def process(folder):
    """Start the command line, as a process that hears Ctrl-C; it is killed in the end."""
    started = []

    def start(*arguments, before=None):
        def prepare():
            # what a shell starts with & is deaf to Ctrl-C, and so would be what it starts
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if before:
                before()

        command = [sys.executable, "-m", "stylebench", "stylize", "photo.png", "painting.png"]
        started.append(
            subprocess.Popen(
                [*command, *MANY, *arguments],
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=prepare,
            )
        )
        return started[-1]

    yield start
    for one in started:
        if one.poll() is None:
            one.kill()
        one.communicate()


def wait_for(path, seconds=90):
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert path.exists()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_the_best_image_and_says_so(folder, process, number, code):
    running = process("--preview-every", "3", "--checkpoint", "run.safetensors")
    wait_for(folder / "out-00003.png")
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == code
    assert "interrupted; the best image so far is in out.png" in err
    assert "Traceback" not in err
    assert read_parameters("out.png")["iterations_done"] >= 3
    assert not [name for name in names(folder) if name.startswith(".stylebench-")]
    assert ("to go on" in err) == (folder / "run.safetensors").exists()


def wait_until_caught(pid, number):
    """Wait until a process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status")
    while True:
        mask = int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16)
        if mask >> (number - 1) & 1:
            return
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="handlers are seen in /proc")
@pytest.mark.parametrize(
    ("number", "code", "moments"),
    [(signal.SIGTERM, 143, 24), (signal.SIGINT, 130, 6), (signal.SIGHUP, 129, 6)],
)
def test_a_signal_at_any_moment_of_the_start_is_one_line(folder, process, number, code, moments):
    for moment in range(moments):  # it sets its handlers, imports, loads, iterates
        running = process()
        wait_until_caught(running.pid, signal.SIGHUP)  # the last of the three
        time.sleep(3.0 * moment / moments)
        running.send_signal(number)
        _, err = running.communicate(timeout=90)
        assert running.returncode == code, err
        if "the best image so far is in out.png" not in err:
            *before, last = err.splitlines()
            assert last == "stylebench: interrupted before the first iteration"
            # The run may have been described already: "32 x 21 px, engine fused ..."
            assert not [line for line in before if " px, engine fused " not in line]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["stylize", "a.png", "b.png"], "interrupted before the first iteration"),
        (["demo"], "interrupted before the first iteration"),
        (["bench", "smoke"], "interrupted"),
        ([], "interrupted"),
    ],
)
def test_the_line_tells_of_iterations_where_there_would_be_some(monkeypatch, arguments, line):
    monkeypatch.setattr(sys, "argv", ["stylebench", *arguments])
    assert interrupted() == line


def test_nothing_is_imported_before_the_signals_are_taken_over(fresh_python):
    source = (
        "import sys; before = set(sys.modules); import stylebench.cli; "
        "print(*sorted(set(sys.modules) - before))"
    )
    imported = set(fresh_python(source).split())
    assert "stylebench.signals" in imported
    assert not imported & {"dataclasses", "importlib.metadata", "typer", "stylebench.version"}


def test_a_signal_in_a_destructor_says_nothing_and_other_faults_do(monkeypatch, capsys):
    class Falls:
        def __init__(self, error):
            self.error = error

        def __del__(self):
            raise self.error

    monkeypatch.setattr(sys, "unraisablehook", _unraisable)
    Falls(signals.Stop(signal.SIGTERM))
    assert capsys.readouterr().err == ""
    Falls(ValueError("odd"))
    assert "odd" in capsys.readouterr().err


@pytest.mark.slow
def test_a_signal_that_the_caller_ignores_is_ignored(folder, process):
    running = process(
        "--preview-every", "3", before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    wait_for(folder / "out-00003.png")
    running.send_signal(signal.SIGHUP)
    wait_for(folder / "out-00009.png")
    assert running.poll() is None


def while_saving(monkeypatch, numbers):
    """Let signals come while the picture is written."""
    save = Result.save

    def interrupted(self, path, bit_depth=8):
        for number in numbers:
            signals._on_signal(number, None)
        return save(self, path, bit_depth)

    monkeypatch.setattr(Result, "save", interrupted)


def test_a_signal_while_the_picture_is_saved_waits_for_the_end(folder, call, monkeypatch):
    while_saving(monkeypatch, [signal.SIGTERM])
    code, _, err = call("stylize", "photo.png", "painting.png", *MANY, *FEW)
    assert code == 143
    assert "out.png: loss" in err
    assert read_parameters("out.png")["iterations_done"] == 3


def test_a_second_signal_leaves_the_old_file_whole(folder, call, monkeypatch, photo):
    photo.save("out.png")
    old, before = Path("out.png").read_bytes(), names(folder)
    while_saving(monkeypatch, [signal.SIGINT, signal.SIGINT])
    code, _, err = call("stylize", "photo.png", "painting.png", *MANY, *FEW)
    assert code == 130
    assert "interrupted while out.png was saved: it is whole" in err
    assert (Path("out.png").read_bytes(), names(folder)) == (old, before)


def test_a_write_that_is_broken_off_leaves_no_temporary_file(folder, photo, monkeypatch):
    monkeypatch.setattr(signals, "_state", signals._State())
    old = Path("photo.png").read_bytes()

    def half(self, path, *_, **__):
        Path(path).write_bytes(b"half")
        signals._on_signal(signal.SIGTERM, None)

    monkeypatch.setattr(Image.Image, "save", half)
    before = names(folder)
    with pytest.raises(signals.Stop):
        save_image("photo.png", torch.zeros(3, 4, 4))
    assert (Path("photo.png").read_bytes(), names(folder)) == (old, before)

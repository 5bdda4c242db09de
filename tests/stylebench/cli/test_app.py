"""The command line, as a person runs it: a subprocess, its files, its exit code, its one line."""

import hashlib
import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
import torch
from PIL import Image

from stylebench.image.save import read_parameters
from stylebench.model.original import SHA256, original_file
from stylebench.transfer.api import style_transfer
from stylebench.transfer.result import Interrupted

QUICK = [
    "--engine", "reference", "--weights", "random", "--size", "32", "--iterations", "4",
    "--device", "cpu",
]  # fmt: skip


GONE = """
import os, sys
os.rmdir(os.getcwd())
sys.path = [path for path in sys.path if path]
from stylebench.cli import main
main()
"""


@pytest.mark.parametrize("arguments", [["stylize", "a.png", "b.png"], ["demo"], ["--help"]])
def test_a_current_folder_that_was_removed_is_one_line(tmp_path, arguments):
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", GONE, *arguments],
        cwd=tmp_path / "gone", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("stylebench: error: the current folder is gone (No such file")
    assert done.stderr.count("\n") == 1


def opened(path):
    """A picture's (mode, size, extremes of each channel)."""
    with Image.open(path) as image:
        return image.mode, image.size, image.getextrema()


def shell(*arguments, **options):
    command = [sys.executable, "-m", "stylebench", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, **options
    )


def test_stylize_writes_the_picture_the_losses_and_the_previews(folder):
    done = shell(
        "stylize", "photo.png", "painting.png", "painting.png", "-o", "out.png", *QUICK,
        "--style-weights", "2,1", "--preset", "neural-style-pt", "--init", "content",
        "--content-layers", "relu3_1=0.5", "--losses", "losses.csv", "--preview-every", "2",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert opened("out.png")[:2] == ("RGB", (32, 21))
    assert opened("out-00002.png")[1] == opened("out-00004.png")[1] == (32, 21)
    assert len(pd.read_csv("losses.csv")) == 4
    parameters = read_parameters("out.png")
    assert parameters["content_layers"] == {"relu3_1": 0.5}
    assert parameters["style_weights"] == [2 / 3, 1 / 3]
    assert "32 x 21 px, engine reference fp32 on cpu, weights random:0" in done.stderr
    assert re.search(r"out.png: loss \S+ -> \S+ in 4 iterations, \S+ s, \S+ it/s", done.stderr)


@pytest.mark.slow
def test_quiet_prints_nothing(folder):
    done = shell("stylize", "photo.png", "painting.png", *QUICK, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert opened("out.png")[:2] == ("RGB", (32, 21))


def test_an_error_is_one_line_and_exit_code_2(folder, call):
    expected = 2, "", "stylebench: error: absent.png: no such file\n"
    assert call("stylize", "absent.png", "painting.png", *QUICK) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stylize", "photo.png"], "Missing argument"),
        (["stylize", "photo.png", "painting.png", "--sise", "3"], "No such option"),
        (
            ["stylize", "photo.png", "painting.png", "--size", "big"],
            "--size is 'big': expected a whole number of px, or content",
        ),
        (["stylize", "photo.png", "painting.png", "-o", "a.bmp"], "unknown image extension '.bmp'"),
        (
            ["stylize", "photo.png", "painting.png", "-o", "no/a.png"],
            "the folder no does not exist",
        ),
        (["stylize", "photo.png", "painting.png", "--losses", "no/a.csv"], "folder no does not"),
        (["stylize", "photo.png", "painting.png", "--preset", "x"], "expected one of paper, gatys"),
        (["stylize", "photo.png", "painting.png", "--style-weights", "1,x"], "'x' is not a number"),
        (["stylize", "photo.png", "painting.png", "--style-layers", "relu1_1=a"], "not a number"),
        (["stylize", "photo.png", "painting.png", "--weights", "x"], "unknown --weights 'x'"),
        (
            ["stylize", "photo.png", "painting.png", "-o", "a.jpg", "--bit-depth", "16"],
            "no 16 bits",
        ),
        (
            ["stylize", "photo.png", "painting.png", "--tv-weight", "x"],
            "--tv-weight is 'x': expected a valid number",
        ),
        (
            ["stylize", "photo.png", "painting.png", "--preview-every", "-1"],
            "--preview-every is '-1': expected greater than or equal to 0",
        ),
        (
            ["stylize", "photo.png", "painting.png", "--preview-every", "9" * 26],
            f"--preview-every is {'9' * 26}: expected a whole number below 2^63",
        ),
        (
            ["stylize", "photo.png", "painting.png", "--checkpoint-every", "9" * 26],
            f"--checkpoint-every is {'9' * 26}: expected a whole number below 2^63",
        ),
        (
            ["stylize", "photo.png", "painting.png", "--bit-depth", "10"],
            "--bit-depth is 10: expected 8 or 16",
        ),
        (
            ["stylize", "photo.png", "painting.png", "--content-layers", "relu9_9"],
            "unknown layer 'relu9_9' in --content-layers: expected conv1_1",
        ),
        (["stylize", "photo.png", "painting.png", "--size", "1"], "raise --size or --style-scale"),
        (["stylize", "photo.png", "painting.png", "--size", "0"], "--size is 0: expected a whole"),
        (
            ["stylize", "photo.png", "painting.png", "--style-scale", "0"],
            "--style-scale is 0.0: ex",
        ),
        (["bench", "iteration", "--size", "big"], "--size/-s is 'big': expected a valid integer"),
        (
            ["stylize", "http://x/y.png", "painting.png"],
            "http://x/y.png: is an address, and only files of this machine are read",
        ),
        (["compare", "http://x/y.png", "painting.png"], "http://x/y.png: is an address"),
        (["stylize", "photo.png", "photo.png", "s3://x/y.png"], "s3://x/y.png: is an address"),
        (
            ["stylize", "photo.png", "painting.png", "--weights", "https://x/y.pth"],
            "https://x/y.pth: is an address",
        ),
        (["stylize", "", "painting.png"], "CONTENT is '': expected a name or a value"),
        (["stylize", "photo.png", ""], "STYLE is '': expected a name"),
        (["stylize", "photo.png", "painting.png", "-o", ""], "--output is '': expected a name"),
        (["stylize", "photo.png", "painting.png", "--losses="], "--losses is '': expected a name"),
        (["stylize", "photo.png", "painting.png", "--checkpoint", ""], "--checkpoint is ''"),
        (["stylize", "photo.png", "painting.png", "--resume", ""], "--resume is '': expected"),
        (["demo", "-o", ""], "--output is '': expected a name"),
        (["compare", "photo.png", "painting.png", "-o", ""], "--output is '': expected a name"),
        (["report", ""], "PATHS is '': expected a name"),
        (["report", ".", "-o", ""], "--output is '': expected a name"),
        (["bench", "iteration", "-o", ""], "--output is '': expected a name"),
        (["bench", "iteration", "--filter", ""], "--filter is '': expected a name or a value"),
        (["bench", "compare", ".", ""], "AFTER is '': expected a name"),
        (
            ["bench", "compare", "--base", "HEAD", "--rounds", "9" * 25],
            f"--rounds is '{'9' * 25}': expected less than or equal to 1000",
        ),
        (["paint"], "No such command"),
        (
            ["photo.png", "painting.png"],
            "No such command 'photo.png': for pictures it is 'stylebench stylize photo.png paint",
        ),
    ],
)
def test_each_mistake_is_named_in_one_line(folder, call, arguments, message):
    code, out, err = call(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("stylebench: error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_missing_compiler_is_named_in_one_line(folder):
    missing = {"CXX": str(folder / "g++"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "cache")}
    arguments = ["stylize", "photo.png", "painting.png", *QUICK[2:], "--engine", "compiled", "-q"]
    done = shell(*arguments, "--precision", "fp32", env=os.environ | missing)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "stylebench: error: no compiler to compile with; install g++, or take --engine fused ("
    )
    assert done.stderr.count("\n") == 1


def test_divergence_saves_the_last_good_image_and_fails(folder, call):
    code, _, err = call(
        "stylize", "photo.png", "painting.png", *QUICK[:-4], "--iterations", "50",
        "--device", "cpu", "--learning-rate", "1e30",
    )  # fmt: skip
    assert code == 2
    assert "the last good image is in out.png" in err
    assert re.search(r"stylebench: error: the loss term 'content relu4_2' became NaN", err)
    assert opened("out.png")[2] != ((0, 0),) * 3


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_run_that_no_step_helped_ends_with_3_and_names_the_option(folder, call):
    code, _, err = call("stylize", "photo.png", "painting.png", *QUICK, "--learning-rate", "1e-30")
    assert code == 3
    assert "warning: no step lowered the loss; --learning-rate is 1e-30: the picture is" in err


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_warning_is_one_line(folder, call, photo):
    photo.save("photo.png", icc_profile=b"no profile")
    code, _, err = call("stylize", "photo.png", "painting.png", *QUICK)
    assert code == 0
    (line,) = [line for line in err.splitlines() if "warning" in line]
    assert line.startswith("stylebench: warning: photo.png: its ICC profile cannot be used")
    (folder / "out.png").unlink()
    assert call("stylize", "photo.png", "painting.png", *QUICK, "-q") == (0, "", "")


def test_without_options_the_original_network_is_used_and_nothing_is_said(
    folder, call, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(folder))
    code, _, err = call(
        "stylize", "photo.png", "painting.png", "--size", "32", "--iterations", "1",
        "--device", "cpu", "-q",
    )  # fmt: skip
    assert (code, err) == (0, "")
    parameters = read_parameters("out.png")
    assert (parameters["weights"], parameters["weights_sha256"]) == ("original", SHA256)


def test_presets_lists_every_preset_with_its_source(call):
    code, out, _ = call("presets")
    assert code == 0
    assert "1000 / N^4 at relu 1_1, 2_1, 3_1, 4_1, 5_1" in out
    assert "pytorch-tutorial: PyTorch's tutorial" in out


def test_doctor_tells_versions_devices_weights_and_choices(call, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    code, out, _ = call("doctor")
    assert code == 0
    assert f"torch {torch.__version__.split('+')[0]}" in out
    for text in ("cpu: ", "imagenet: vgg19-dcbb9e9d.pth", "a run would use", "engine "):
        assert text in out
    assert f"weights original, SHA-256 {SHA256}\n    from {original_file()}" in out


@pytest.mark.parametrize(("native", "line"), [(True, " lanes, kept in "), (False, "none, so fp32")])
def test_doctor_tells_of_native_code(call, monkeypatch, native, line):
    monkeypatch.setattr("stylebench.cli.doctor.has_native_code", lambda: native)
    monkeypatch.setattr("stylebench.cli.doctor.processor", lambda: "znver3, 8 lanes")
    _, out, _ = call("doctor")
    (found,) = [text for text in out.splitlines() if "native code" in text]
    assert line in found


def test_doctor_tells_of_the_file_that_auto_takes_first(call, tmp_path, weights, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "vgg_conv.pth"
    path.parent.mkdir(parents=True)
    layers = weights.layers.items()
    state = {f"{name}.weight": weight for name, (weight, _) in layers}
    torch.save(state | {f"{name}.bias": bias for name, (_, bias) in layers}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    _, out, _ = call("doctor")
    assert f"weights gatys, SHA-256 {digest}\n    from {path}" in out


def test_doctor_tells_why_there_are_no_weights(call, monkeypatch):
    monkeypatch.setattr("stylebench.model.weights.original_file", lambda: None)
    monkeypatch.setattr("stylebench.model.weights.caffe_file", lambda: None)
    code, out, _ = call("doctor")
    assert code == 0
    assert "no weights: original weights not found" in out


def test_demo_writes_its_pictures_and_prints_the_curve(folder, call):
    code, out, _ = call(
        "demo", "-o", "out", "--size", "32", "--iterations", "5", "--weights", "random"
    )
    assert code == 0
    for name in ("content", "style", "result", "strip"):
        assert opened(folder / "out" / f"{name}.png")[0] == "RGB"
    assert len(pd.read_csv(folder / "out" / "losses.csv")) == 5
    assert "loss by iteration" in out
    assert "it/s" in out


@pytest.mark.slow
def test_an_interrupted_demo_keeps_its_pictures(folder, call, monkeypatch):
    import stylebench.cli.demo

    def stopped(*arguments, **options):
        raise Interrupted(style_transfer(*arguments, **options))

    monkeypatch.setattr(stylebench.cli.watched, "style_transfer", stopped)
    code, out, _ = call(
        "demo", "-o", "out", "--size", "32", "--iterations", "2", "--weights", "random"
    )
    assert code == 130
    assert opened(folder / "out" / "strip.png")[0] == "RGB"
    assert "in 2 iterations" in out


def test_help_and_version_come_without_torch(folder, fresh_python):
    script = (
        "import sys; from stylebench.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    for argument, text in (("--help", "Commands"), ("--version", "stylebench ")):
        said = fresh_python(script, argument)
        assert text in said
        assert said.rstrip().endswith("False")


def test_help_shows_every_option_and_its_default(folder):
    out = shell("stylize", "--help", env=os.environ | {"COLUMNS": "200", "TERM": "dumb"}).stdout
    for option in ("--style-weights", "--tv-weight", "--history", "--bit-depth", "--preview-every"):
        assert option in out
    assert "[default: gatys-pytorch]" in out
    assert "[default: (preset's)]" in out


@pytest.mark.slow
def test_importing_takes_no_more_than_torch_and_torchvision(fresh_python):
    """Everything that ``import stylize`` loads besides them is ours, or pillow and numpy."""
    script = (
        "import sys, json, torch, torchvision\n"
        "before = set(sys.modules)\n"
        "from stylebench import stylize\n"
        "print(json.dumps(sorted({m.split('.')[0] for m in set(sys.modules) - before})))"
    )
    loaded = set(json.loads(fresh_python(script)))
    assert "stylebench" in loaded
    assert not loaded & {
        "pandas",
        "rich",
        "typer",
        "matplotlib",
        "tifffile",
        "imagecodecs",
        "scipy",
    }

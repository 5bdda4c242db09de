"""Parity as a command: its options, what it writes, and that it bites."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from stylebench.cli.app import main
from stylebench.cli.compare import compare_visibly
from stylebench.model.original import SHA256
from stylebench.transfer.settings import Settings

QUICK = Settings(
    weights="random", size=32, iterations=6, device="cpu", engine="fused", precision="fp32",
    content_layers="relu2_2", style_layers=["relu1_1", "relu2_1", "relu3_1"],
)  # fmt: skip


@pytest.fixture
def arguments(tmp_path, photo, painting, monkeypatch):
    photo.save(tmp_path / "photo.png")
    painting.save(tmp_path / "painting.png")
    monkeypatch.chdir(tmp_path)
    return [
        "compare", "photo.png", "painting.png", "--weights", "random", "--size", "32",
        "--iterations", "4", "--device", "cpu", "-o", "parity",
    ]  # fmt: skip


def test_compare_is_a_command(arguments, tmp_path, call):
    code, out, err = call(*arguments)
    assert (code, err) == (0, "")
    assert "within tolerance" in out
    record = json.loads((tmp_path / "parity" / "compare.json").read_text())
    assert record["passed"]
    assert set(record) == {"parameters", "reference", "comparisons", "passed"}
    assert record["parameters"]["seed"] == 0
    assert record["comparisons"][0]["engine"] == "fused"
    with Image.open(tmp_path / "parity" / "strip.png") as strip:
        assert strip.size == (3 * 32 + 2 * 8, 21)


def test_a_refused_precision_is_refused_before_the_reference_runs(
    photo, painting, tmp_path, monkeypatch
):
    monkeypatch.setattr("stylebench.cli.compare.baseline", None)
    wanted = [replace(QUICK, engine=name, precision="bf16") for name in ("fused", "reference")]
    with pytest.raises(ValueError, match="'reference' does not compute in bf16"):
        compare_visibly(photo, [painting], wanted, tmp_path)


@pytest.mark.parametrize("color", [None, "white"])
def test_one_picture_as_content_and_style_is_compared(photo, tmp_path, color):
    """Its losses are 0, and a share of 0 is none; of one color, no noise moves its start."""
    picture = Image.new("RGB", (32, 32), color) if color else photo
    picture.save(tmp_path / "a.png")
    files = tmp_path / "a.png", [tmp_path / "a.png"]
    assert compare_visibly(*files, [replace(QUICK, iterations=3)], tmp_path)
    record = json.loads((tmp_path / "compare.json").read_text())
    assert record["reference"]["losses"] == [0, 0, 0]
    assert record["comparisons"][0]["psnr"] is None


def test_a_style_that_cannot_be_read_is_one_line_and_leaves_nothing(
    arguments, tmp_path, monkeypatch, capsys
):
    (tmp_path / "painting.png").write_text("no picture")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("sys.argv", ["stylebench", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("stylebench: error: painting.png: not an image")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def broken(arguments):
    """Runs the command with an engine whose gradient is an expression of ``original``'s."""

    def run(gradient):
        breakage = (
            "from stylebench.engines.fused import engine as fused\n"
            "original = fused.Fused._backward\n"
            f"fused.Fused._backward = lambda self, image: {gradient}\n"
            "from stylebench.cli.app import main\n"
            "main()\n"
        )
        command = [sys.executable, "-c", breakage, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.mark.slow
def test_nan_is_exit_code_1_with_a_table_and_json(broken, tmp_path):
    done = broken("original(self, image) * float('nan')")
    assert done.returncode == 1, done.stderr
    assert "OUTSIDE the tolerance" in done.stdout
    record = json.loads((tmp_path / "parity" / "compare.json").read_text())
    assert not record["passed"]
    (found,) = record["comparisons"]
    assert found["losses"] == []
    assert "the gradient became NaN or infinite at iteration 1" in found["checks"][-2]["what"]


@pytest.mark.slow
def test_compare_fails_with_a_broken_engine(broken, tmp_path):
    done = broken("-original(self, image)")
    assert done.returncode == 1, done.stderr
    assert "OUTSIDE the tolerance" in done.stdout
    assert not json.loads((tmp_path / "parity" / "compare.json").read_text())["passed"]


@pytest.fixture
def compared(arguments, monkeypatch):
    """The settings and styles that the command compares, without comparing them."""

    def run(*words):
        seen = []
        monkeypatch.setattr("stylebench.cli.compare.compare_visibly", lambda *a: seen.append(a))
        monkeypatch.setattr(sys, "argv", ["stylebench", "compare", *words])
        with pytest.raises(SystemExit):
            main()
        ((_, styles, settings, _),) = seen
        return styles, settings

    return run


def test_compare_takes_what_stylize_takes(compared):
    styles, settings = compared(
        "photo.png", "painting.png", "photo.png", "--precision", "fp32", "--precision", "bf16",
        "--engines", "eager,fused", "--pooling", "average", "--init", "noise", "--seed", "7",
        "--optimizer", "torch-lbfgs", "--history", "5",
    )  # fmt: skip
    assert [str(style) for style in styles] == ["painting.png", "photo.png"]
    assert [(each.engine, each.precision) for each in settings] == [
        ("eager", "fp32"), ("eager", "bf16"), ("fused", "fp32"), ("fused", "bf16")
    ]  # fmt: skip
    for each in settings:
        assert (each.pooling, each.init, each.seed) == ("average", "noise", 7)
        assert (each.optimizer, each.history) == ("torch-lbfgs", 5)
        assert (each.size, each.iterations) == (256, 100)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--quick"], (128, 30)),
        (["--quick", "--size", "64"], (64, 30)),
        (["--quick", "-n", "5"], (128, 5)),
        ([], (256, 100)),
    ],
)
def test_quick_gives_way_to_what_is_given(compared, words, expected):
    _, (settings,) = compared(*words)
    assert (settings.size, settings.iterations) == expected
    assert settings.precision == "auto"


@pytest.mark.slow
def test_precisions_are_compared_side_by_side_with_several_styles(photo, painting, tmp_path):
    paths = [tmp_path / "photo.png", tmp_path / "painting.png"]
    for path, picture in zip(paths, (photo, painting), strict=True):
        picture.save(path)
    short = replace(QUICK, iterations=2, init="noise", pooling="average", optimizer="adam")
    wanted = [replace(short, precision=precision) for precision in ("fp32", "bf16")]
    assert compare_visibly(paths[0], paths, wanted, tmp_path)
    record = json.loads((tmp_path / "compare.json").read_text())
    assert [each["precision"] for each in record["comparisons"]] == ["fp32", "bf16"]
    assert record["parameters"]["style_weights"] == [0.5, 0.5]
    assert record["parameters"]["content"] == "photo.png"
    assert record["parameters"]["style"] == ["photo.png", "painting.png"]


def test_without_pictures_the_examples_are_compared_and_named(tmp_path):
    settings = replace(QUICK, weights="original", iterations=2)
    compare_visibly(None, None, [settings], tmp_path)
    parameters = json.loads((tmp_path / "compare.json").read_text())["parameters"]
    assert (parameters["content"], parameters["style"]) == ("tuebingen.jpg", "starry_night.jpg")
    assert (parameters["weights"], parameters["weights_sha256"]) == ("original", SHA256)

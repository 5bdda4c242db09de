"""``stylebench texture``, and the options of color and start: files, refusals, lines."""

import numpy as np
import pytest
from PIL import Image

from stylebench.image.save import read_parameters

QUICK = [
    "--engine", "eager", "--weights", "random", "--size", "32", "--iterations", "3",
    "--device", "cpu", "--style-layers", "relu1_1,relu2_1",
]  # fmt: skip
CONTENT = [*QUICK, "--content-layers", "relu2_1"]


def test_a_texture_is_written_with_its_parameters_losses_and_previews(folder, call):
    code, out, err = call(
        "texture", "painting.png", "-o", "t.png", *QUICK, "--size", "48x32", "--seamless",
        "--losses", "t.csv", "--preview-every", "2", "--seed", "5",
    )  # fmt: skip
    assert (code, out) == (0, "")
    assert "48 x 32 px, engine eager" in err
    with Image.open("t.png") as image, Image.open("t-00002.png") as preview:
        assert (image.mode, image.size) == ("RGB", (48, 32))
        assert preview.size == (48, 32)
    found = read_parameters("t.png")
    expected = {"seamless": True, "content_layers": {}, "init": "noise", "seed": 5}
    assert {name: found[name] for name in expected} == expected
    assert (folder / "t.csv").read_text().startswith("iteration,seconds,loss,style relu1_1")


def test_a_texture_goes_on_from_a_checkpoint_with_no_bit_different(folder, call):
    texture = ["texture", "painting.png", *QUICK, "-q"]
    assert call(*texture, "-o", "a.png", "--checkpoint", "run") == (0, "", "")
    assert call(*texture, "-o", "b.png", "--resume", "run", "-n", "6") == (0, "", "")
    assert call(*texture, "-o", "c.png", "-n", "6") == (0, "", "")
    assert np.array_equal(np.asarray(Image.open("b.png")), np.asarray(Image.open("c.png")))
    code, _, err = call(*texture, "-o", "d.png", "--resume", "run", "-n", "6", "--seamless")
    assert (code, err.count("\n")) == (2, 1)
    assert "the checkpoint was made with seamless False, and this run has True" in err


def test_a_dry_run_of_a_texture_does_nothing(folder, call):
    code, out, _ = call("texture", "painting.png", *QUICK, "--dry-run")
    assert code == 0
    assert out.splitlines()[1].startswith("32 x 32 px")
    assert not (folder / "out.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["texture"], "Missing argument 'style'"),
        (["texture", "absent.png", *QUICK], "absent.png: no such file"),
        (
            ["texture", "painting.png", "--size", "32x"],
            "--size is '32x': expected a whole number of px, or width x height as 512x320",
        ),
        (
            ["texture", "painting.png", "--size", "0"],
            "--size is '0': expected a whole number of px",
        ),
        (
            ["texture", "painting.png", "--size", "32x0", "-n", "1"],
            "--size is '32x0': expected a whole number",
        ),
        (
            ["texture", "painting.png", "--seamless", "--size", "100"],
            "multiples of 16 px, as 96 x 96 or 112 x 112",
        ),
        (
            ["texture", "painting.png", "--size", "300000"],
            "300000 x 300000 px with 20 pairs of L-BFGS need ",
        ),
        (
            ["texture", "painting.png", "--style-weight", "0"],  # it has no --content-weight
            "content_weight and --style-weight and --tv-weight come to 0 everywhere",
        ),
        (["texture", "painting.png", "--content-weight", "1"], "No such option: --content-weight"),
        (["texture", "painting.png", "-o", "painting.png"], "-o painting.png: is a style"),
        (
            ["stylize", "photo.png", "painting.png", "--color", "yiq"],
            "unknown --color 'yiq': expected one of style, content-luminance, match, match-chol",
        ),
        (
            ["stylize", "photo.png", "painting.png", "--init", "content+noise:2"],
            "--init is 'content+noise:2': expected a share of noise from 0 to 1, as content+noise",
        ),
        (
            ["stylize", "photo.png", "painting.png", "--seamless", "--size", "100"],
            "seamless: a picture of 100 x 67 px does not close around its edges",
        ),
    ],
)
def test_a_wrong_call_is_one_line(folder, call, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (folder / "out.png").exists()


def test_stylize_takes_a_color_a_start_and_an_image_called_like_one(folder, call):
    stylize = ["stylize", "photo.png", "painting.png", *CONTENT, "-q", "-o"]
    assert call(*stylize, "a.png", "--color", "match-cholesky", "--init", "mean") == (0, "", "")
    found = read_parameters("a.png")
    assert (found["color"], found["init"]) == ("match-cholesky", "mean")
    Image.open("painting.png").save("gray", "PNG")
    assert call(*stylize, "b.png", "--init", "./gray") == (0, "", "")
    assert call(*stylize, "c.png", "--init", "painting.png") == (0, "", "")
    assert np.array_equal(np.asarray(Image.open("b.png")), np.asarray(Image.open("c.png")))
    assert call(*stylize, "d.png", "--init", "gray") == (0, "", "")
    assert not np.array_equal(np.asarray(Image.open("d.png")), np.asarray(Image.open("c.png")))


def test_a_batch_takes_a_color_and_a_start(folder, call):
    batch = ["batch", "photo.png", "--style", "painting.png", "--size", "32", "-n", "2", "-q"]
    quick = ["--weights", "random", "--device", "cpu", "--engine", "eager", "-o", "painted"]
    choices = ["--color", "content-luminance", "--init", "content+noise:0.3"]
    assert call(*batch, *quick, *choices) == (0, "", "")
    found = read_parameters("painted/photo.png")
    assert (found["color"], found["init"]) == ("content-luminance", "content+noise:0.3")

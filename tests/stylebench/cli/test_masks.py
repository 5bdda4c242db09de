"""``--mask``: two values, as often as there are parts."""

import pytest
from PIL import Image

SMALL = (
    "--weights", "random", "--size", "48", "-n", "2", "--scales", "none", "--engine", "fused",
    "--content-layers", "relu2_1", "--style-layers", "relu1_1,relu2_1",
)  # fmt: skip


@pytest.fixture
def masks(folder):
    """The upper and the lower half of the photo, and the left of the painting."""
    for name, size, box in [
        ("upper", (48, 32), (0, 0, 48, 16)),
        ("lower", (48, 32), (0, 16, 48, 32)),
        ("left", (40, 40), (0, 0, 20, 40)),
    ]:
        mask = Image.new("L", size)
        mask.paste(255, box)
        mask.save(folder / f"{name}.png")
    return folder


def test_masks_may_be_given_several_times(masks, call):
    pairs = ("--mask", "upper.png", "left.png", "--mask", "lower.png", "none")
    code, _, _ = call("stylize", "photo.png", "painting.png", *SMALL, *pairs)
    assert code == 0
    with Image.open("out.png") as image:
        named = image.text["stylebench"]
    assert "upper.png" in named
    assert "none" in named


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("upper.png",), "Option '--mask' requires 2 arguments"),
        (("", "none"), "--mask is ''"),
        (("nowhere.png", "none"), "mask 1: there is no file 'nowhere.png'"),
        (("left.png", "none"), "mask 1, left.png: is 40 x 40 px"),
    ],
)
def test_masks_that_cannot_be_are_one_line(masks, call, typed, message):
    code, _, err = call("stylize", "photo.png", "painting.png", *SMALL, "--mask", *typed)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["stylize", "batch"])
def test_a_mask_is_not_overwritten(masks, call, command):
    pair = ("--mask", "upper.png", "none")
    before = (masks / "upper.png").read_bytes()
    if command == "stylize":
        code, _, err = call(
            "stylize", "photo.png", "painting.png", *SMALL, *pair, "-o", "upper.png"
        )
    else:
        (masks / "in").mkdir()
        (masks / "photo.png").rename(masks / "in" / "upper.png")
        code, _, err = call("batch", "in", "--style", "painting.png", *pair, "-o", ".")
    assert code == 2
    assert "upper.png" in err
    assert (masks / "upper.png").read_bytes() == before


def test_a_batch_takes_masks(masks, call):
    few = ("--weights", "random", "--size", "48", "-n", "2", "--scales", "none")
    pair = ("--mask", "upper.png", "left.png")
    assert call("batch", "photo.png", "--style", "painting.png", *few, *pair)[0] == 0
    assert (masks / "out" / "photo.png").exists()


def test_a_dry_run_checks_masks(masks, call):
    pair = ("--mask", "left.png", "none")
    code, _, err = call("stylize", "photo.png", "painting.png", *SMALL, *pair, "--dry-run")
    assert code == 2
    assert "aspect" in err

"""Textures: a run without a content, of any size, and one that tiles."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from stylebench import Settings, style_transfer, stylize, texture
from stylebench.engines import ENGINES
from stylebench.image.load import ImageError, load_image
from stylebench.transfer.footprint import Choices, footprint
from stylebench.transfer.inputs import load_pictures
from stylebench.transfer.prepare import load_inputs, planned
from stylebench.transfer.problem import build_problem
from stylebench.transfer.scales import with_scales
from stylebench.transfer.schedule import warm_start
from stylebench.transfer.texture import texture_run

STYLE_LAYERS = ["relu1_1", "relu2_1", "relu3_1"]
QUICK = Settings(
    weights="random", iterations=3, device="cpu", precision="fp32", style_layers=STYLE_LAYERS
)
KEYWORDS = {
    "weights": "random", "iterations": 3, "device": "cpu", "precision": "fp32",
    "style_layers": STYLE_LAYERS,
}  # fmt: skip


def made(style, size, settings):
    run = texture_run(style, size, settings)
    return style_transfer(run.canvas, run.styles, run.settings)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "compiled"])
@pytest.mark.parametrize("seamless", [False, True])
def test_a_texture_has_the_styles_grams_for_its_only_losses(painting, engine, seamless):
    settings = replace(QUICK, engine=engine, seamless=seamless, iterations=8)
    result = made(painting, (48, 32), settings)
    assert result.rgb.shape == (3, 32, 48)
    assert list(result.history[0])[3:] == [f"style {layer}" for layer in STYLE_LAYERS]
    assert result.parameters["loss"] < result.history[0]["loss"] / 3
    assert (result.parameters["init"], result.parameters["content_layers"]) == ("noise", {})


def test_a_texture_is_the_same_in_tiles(painting):
    whole = made(painting, 32, replace(QUICK, seamless=True, precision="fp64", engine="eager"))
    tiled = made(
        painting, 32, replace(QUICK, seamless=True, precision="fp64", engine="fused", tile=16)
    )
    torch.testing.assert_close(tiled.rgb, whole.rgb, rtol=0, atol=1e-5)


def test_the_function_takes_a_size_or_width_and_height(painting):
    assert texture(painting, size=32, **KEYWORDS).size == (32, 32)
    image = texture(painting, size=(48, 32), seamless=True, seed=3, **KEYWORDS)
    assert image.size == (48, 32)
    assert image.mode == "RGB"
    other = texture(painting, size=(48, 32), seamless=True, seed=4, **KEYWORDS)
    assert np.any(np.asarray(image) != np.asarray(other))


def plan_of(run):
    return planned(load_pictures(run.canvas, run.styles, run.settings), run.settings)


def test_a_style_keeps_its_size_but_where_it_is_larger_than_the_texture(painting):
    small = texture_run(painting, 160, QUICK)  # the style has 40 px
    assert small.settings.style_scale == 0.25
    sizes = plan_of(small).phases[-1].sizes
    assert sizes.styles == [(40, 40)]
    assert texture_run(painting, 32, QUICK).settings.style_scale == 1.0
    doubled = texture_run(painting, 80, replace(QUICK, style_scale=2.0))
    assert plan_of(doubled).phases[-1].sizes.styles == [(80, 80)]


def test_a_style_keeps_its_size_beside_a_texture_that_is_a_narrow_strip(painting):
    assert plan_of(texture_run(painting, (320, 16), QUICK)).phases[-1].sizes.styles == [(40, 40)]


def test_a_texture_that_cannot_fit_is_refused_before_its_canvas_is_drawn(painting):
    line = r"^300000 x 300000 px .* need .* GiB, and cpu has .*: lower the size or history$"
    with pytest.raises(ValueError, match=line):  # the canvas alone would have 1 TiB
        made(painting, 300_000, QUICK)


def test_a_texture_averages_in_its_poolings_but_where_it_is_told_not_to(painting):
    assert texture_run(painting, 32, QUICK).settings.resolved_preset().pooling == "average"
    told = texture_run(painting, 32, replace(QUICK, pooling="max")).settings
    assert told.resolved_preset().pooling == "max"


def test_no_transparent_style_makes_a_transparent_texture(painting):
    cut = painting.convert("RGBA")
    cut.putalpha(Image.fromarray(np.tri(40, 40, dtype=np.uint8) * 255))
    with pytest.warns(UserWarning, match="taken as white paint"):
        assert texture(cut, size=32, **KEYWORDS).mode == "RGB"


@pytest.mark.parametrize(
    ("size", "settings", "message"),
    [
        (0, {}, "size is 0: expected a whole number of 1 or more"),
        ("512", {}, "size is '512': expected a whole number of px, or .width, height."),
        ((32, 0), {}, "the height of size is 0: expected a whole number"),
        ((32, 32, 3), {}, "expected a whole number of px, or .width, height."),
        (36, {"content_layers": ["relu1_1"]}, "content_layers is .*: a texture has no content"),
        (36, {"content_weight": 1.0}, "content_weight is 1.0: a texture has no content"),
        (36, {"color": "match"}, "color is 'match': a texture has no content"),
        (36, {"init": "mean"}, "init is 'mean': expected noise, or a picture"),
        (
            (50, 36),
            {"seamless": True},
            "seamless: a picture of 50 x 36 px does not close around its edges; expected sides "
            "that are multiples of 4 px, as 48 x 36 or 52 x 36",
        ),
        (
            100,
            {"seamless": True, "style_layers": None},
            "multiples of 16 px, as 96 x 96 or 112 x 112",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(painting, size, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        texture_run(painting, size, replace(QUICK, **settings))
    assert "\n" not in str(error.value)


def test_a_seamless_picture_has_a_content_too(photo, painting):
    keywords = KEYWORDS | {"content_layers": "relu2_2", "size": 48, "engine": "fused"}
    image = stylize(photo, painting, seamless=True, **keywords)
    assert image.size == (48, 32)
    with pytest.raises(ImageError, match=r"of 30 x 20 px .* as 28 x 20 or 32 x 20"):
        stylize(photo, painting, seamless=True, **keywords | {"size": 30})
    with pytest.raises(ImageError, match="seamless: a picture of 42 x 28 px"):
        stylize(photo, painting, seamless=True, scales=[42], **keywords)


def test_auto_scales_stop_where_a_size_would_not_close():
    style = Image.effect_noise((256, 256), 60).convert("RGB")
    deep = replace(QUICK, style_layers=None, iterations=60, seamless=True)
    for side, expected in ((256, [64, 128, 256]), (288, [144, 288]), (272, [272])):
        run = texture_run(style, side, deep)
        inputs = load_inputs(run.canvas, run.styles, run.settings)
        assert list(with_scales(run.settings, inputs).schedule()) == expected


@pytest.mark.parametrize("sides", [(16, 32), (32, 48), (16, 48)])
def test_the_next_size_begins_without_a_seam(painting, sides):
    settings = replace(QUICK, seamless=True, engine="eager", precision="fp64")
    small, large = (
        build_problem(load_inputs(r.canvas, r.styles, r.settings), r.settings)
        for r in (texture_run(painting, side, settings) for side in sides)
    )
    image, ratio = small.image, sides[1] / sides[0]
    start = warm_start(image, image, large).image
    # Rolled by positions that are whole in both sizes, it is the rolled start.
    shift = 8
    rolled = warm_start(image.roll((shift, -shift), (2, 3)), image, large).image
    moved = round(shift * ratio)
    torch.testing.assert_close(rolled, start.roll((moved, -moved), (2, 3)), rtol=0, atol=1e-11)


def jumps(rgb):
    """Mean absolute steps between neighbors, and across the two borders."""
    inside = [rgb.diff(dim=dim).abs().mean().item() for dim in (1, 2)]
    across = [
        (rgb.narrow(dim, 0, 1) - rgb.narrow(dim, -1, 1)).abs().mean().item() for dim in (1, 2)
    ]
    return inside, across


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_the_saved_picture_has_no_seam(engine, tmp_path):
    """Of a smooth style: noise has no smoother place anywhere. Borders are few pixels: three."""
    y, x = np.mgrid[0:48, 0:48] / 48
    waves = [np.sin(9 * x + 4 * y), np.sin(5 * y - 7 * x), np.cos(8 * x)]
    style = (0.5 + 0.4 * np.stack(waves)).astype(np.float32)
    style = torch.from_numpy(style)
    settings = replace(QUICK, engine=engine, iterations=40, scales=None, tv_weight=3e-2)

    def mean_jumps(seamless):
        """Inside and across of saved pictures, the mean of three, each [2]."""
        found = []
        for seed in range(3):
            result = made(style, 32, replace(settings, seamless=seamless, seed=seed))
            found.append(jumps(load_image(result.save(tmp_path / f"{seed}.png")).rgb))
        return np.mean(found, axis=0)

    inside, across = mean_jumps(seamless=True)
    assert (across < 1.15 * inside).all()
    inside, across = mean_jumps(seamless=False)
    assert (across > 2 * inside).all()  # which has one


def test_the_memory_of_a_seamless_run_is_planned_for(painting):
    def peak(seamless, engine):
        run = texture_run(painting, 512, replace(QUICK, seamless=seamless, engine=engine))
        return footprint(Choices.of(run.settings, 512**2), (512, 512), [(40, 40)], True).maps

    for engine in ("eager", "fused"):
        assert 1.02 * peak(False, engine) < peak(True, engine) < 2.5 * peak(False, engine)

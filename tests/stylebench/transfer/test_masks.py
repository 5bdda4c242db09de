"""Masks of a run: how they are read, what they refuse, and runs that have them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from stylebench import (
    CheckpointConfig,
    CheckpointError,
    ImageError,
    Interrupted,
    Settings,
    style_transfer,
    stylize,
    stylize_batch,
)
from stylebench.image.load import load_image
from stylebench.transfer.footprint import Choices
from stylebench.transfer.inputs import load_pictures
from stylebench.transfer.masks import load_masks
from stylebench.transfer.reuse import ENGINE_CACHE

from .problems import SHALLOW

QUICK = {
    "weights": "random", "device": "cpu", "size": 48, "iterations": 3, "engine": "fused",
    "scales": None, **SHALLOW,
}  # fmt: skip


@pytest.fixture
def sky():
    """White in the upper half of the photo, with a soft edge; of twice its size."""
    y = np.mgrid[0:64, 0:96][0]
    return np.clip((32 - y) / 8 + 0.5, 0, 1)


@pytest.fixture
def half():
    """White in the left half of the painting."""
    x = np.mgrid[0:40, 0:40][1]
    return (x < 20).astype(float)


def masks_of(pairs, content, styles, style_weights=None):
    pictures = [load_image(style) for style in styles]
    weights = style_weights or [1 / len(styles)] * len(styles)
    return load_masks(pairs, load_image(content), pictures, [None] * len(styles), weights)


def regions_of(pairs, content, styles, **more):
    masks = masks_of(pairs, content, styles, **more)
    return masks.regions(load_image(content).size, [load_image(style).size for style in styles])


def test_what_masks_leave_is_a_region_with_the_rest_of_the_style(photo, painting, sky, half):
    first, rest = regions_of([(sky, half)], photo, [painting])
    torch.testing.assert_close(first.content + rest.content, torch.ones(1, 1, 32, 48))
    torch.testing.assert_close(first.styles[0] + rest.styles[0], torch.ones(1, 1, 40, 40))
    assert torch.equal(first.styles[0][0, 0], torch.from_numpy(half).float())
    assert first.content[0, 0, :12].min() == 1
    assert first.content[0, 0, 20:].max() == 0


@pytest.mark.parametrize("whole", ["whole", "white"])
def test_the_rest_takes_the_whole_style_where_masks_leave_nothing_of_it(
    photo, painting, sky, whole
):
    mask = np.ones((40, 40)) if whole == "white" else whole
    first, rest = regions_of([(sky, mask)], photo, [painting])
    assert first.styles == [None] if whole == "whole" else first.styles[0].min() == 1
    assert rest.styles == [None]


def test_masks_that_cover_the_content_leave_no_region(photo, painting, sky, half):
    assert len(regions_of([(sky, half), (1 - sky, "whole")], photo, [painting])) == 2
    noisy = np.clip(1 - sky - 2 / 255 * (sky > 0) * (sky < 1), 0, 1)  # as a JPEG has it
    assert len(regions_of([(sky, half), (noisy, "whole")], photo, [painting])) == 2


def test_masks_that_overlap_share_the_pixels(photo, painting, sky):
    white = np.ones((32, 48))
    first, second = regions_of([(sky, "whole"), (white, "whole")], photo, [painting])
    torch.testing.assert_close(first.content + second.content, torch.ones(1, 1, 32, 48))
    assert first.content[0, 0, 0, 0] == 0.5


@pytest.mark.parametrize("none", [None, "none"])
def test_a_part_without_a_style_is_no_region(photo, painting, sky, none):
    (rest,) = regions_of([(sky, none)], photo, [painting])
    assert rest.content[0, 0, :12].max() == 0
    assert rest.content[0, 0, 20:].min() == 1
    assert rest.styles == [None]


def test_several_styles_belong_to_the_masks_in_order(photo, painting, sky, half):
    pairs = [(sky, half), (1 - sky, "whole")]
    first, second = regions_of(pairs, photo, [painting, photo])
    assert (first.style_weights, second.style_weights) == ([1, 0], [0, 1])
    assert second.styles == [None, None]
    (only,) = regions_of([(sky, None), (1 - sky, half)], photo, [painting])
    assert only.styles[0] is not None
    first, rest = regions_of([(sky, half)], photo, [painting, photo, photo])
    assert first.style_weights == [1, 0, 0]
    assert rest.style_weights == [0, 0.5, 0.5]


def test_a_background_of_all_styles_is_their_blend(photo, painting, sky, half):
    left = sky * (np.mgrid[0:64, 0:96][1] < 48)
    pairs = [(left, half), (sky - left, "whole")]
    *_, rest = regions_of(pairs, photo, [painting, photo], style_weights=[0.25, 0.75])
    assert rest.style_weights == [0.25, 0.75]
    assert rest.styles[1] is None
    torch.testing.assert_close(rest.styles[0][0, 0], torch.from_numpy(1 - half).float())


def test_gray_is_the_luminance_and_transparency_is_black(photo, painting):
    rgba = np.zeros((32, 48, 4))
    rgba[..., 1] = 1  # green
    rgba[:16, :, 3] = 0.5
    first, _ = regions_of([(rgba, "whole")], photo, [painting])
    torch.testing.assert_close(first.content[0, 0, :16], torch.full((16, 48), 0.5 * 0.587))
    assert first.content[0, 0, 16:].max() == 0


def test_a_mask_in_color_is_the_gray_picture_that_pillow_makes_of_it(photo, painting):
    colored, gray = (
        regions_of([(mask, "whole")], photo, [painting])[0].content
        for mask in (photo, photo.convert("L"))
    )
    torch.testing.assert_close(colored, gray, rtol=0, atol=0.51 / 255)  # it rounds


def test_a_mask_is_cut_as_the_transparent_parts_of_its_style_are(photo, painting, sky, half):
    framed = Image.new("RGBA", (60, 60))
    framed.paste(painting, (20, 0))
    mask = np.zeros((60, 60))
    mask[:40, 20:40] = 1
    settings = Settings(masks=[(sky, mask)], **QUICK)
    inputs = load_pictures(photo, framed, settings)
    first, _ = inputs.masks.regions((32, 48), [(40, 40)])
    assert torch.equal(first.styles[0][0, 0], torch.from_numpy(half).float())


def test_masks_keep_their_sum_at_any_size(photo, painting, sky):
    masks = masks_of([(sky, "whole"), (1 - sky, "whole")], photo, [painting])
    for size in [(16, 24), (32, 48), (100, 150)]:
        first, second = masks.regions(size, [(40, 40)])
        assert first.content.shape[2:] == size
        torch.testing.assert_close(first.content + second.content, torch.ones(1, 1, *size))


@pytest.mark.parametrize(
    ("pairs", "styles", "message"),
    [
        ([("black", None)], 1, r"mask 1, array: is black, or transparent, all over the content"),
        ([("sky", "black style")], 1, r"all over the style array"),
        ([("half", None)], 1, r"is 40 x 40 px, and the content PIL image 48 x 32 px: .* aspect"),
        ([("sky", None), ("sky", "sky")], 1, r"mask 2, .* 96 x 64 px, and the style .* 40 x 40 px"),
        ([("sky", "half")] * 3, 2, r"3 masks with a style for 2 style images"),
        ([("white", None)], 1, r"every mask is 'none', .* nothing has a style"),
        ([("white", "half")], 2, r"the style .* has no mask .* drop the style"),
    ],
)
def test_masks_that_cannot_be_are_refused_in_a_line(photo, sky, half, pairs, styles, message):
    made = {
        "sky": sky, "half": half, "black": np.zeros((32, 48)), "white": np.ones((32, 48)),
        "black style": np.zeros((40, 40)), None: None,
    }  # fmt: skip
    named = [(made[one], made[two]) for one, two in pairs]
    with pytest.raises(ValueError, match=message) as error:
        masks_of(named, photo, [np.asarray(np.ones((40, 40, 3)) * 0.5)] * styles)
    assert "\n" not in str(error.value)


def test_a_mask_that_is_no_picture_is_refused_as_every_picture_is(photo, painting, tmp_path):
    (tmp_path / "mask.png").write_text("no picture")
    with pytest.raises(ImageError, match=r"mask\.png"):
        masks_of([(tmp_path / "mask.png", None)], photo, [painting])


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ("sky.png", r"^masks is 'sky.png': expected pairs"),
        (["sky.png"], r"^an entry of masks is 'sky.png': expected pairs"),
        ([("a", "b", "c")], r"^mask 1 is \['a', 'b', 'c'\]: expected two"),
        ([(5, None)], r"^mask 1 is 5: expected an image file"),
        ([("nowhere.png", None)], r"^mask 1: there is no file 'nowhere.png'"),
        ([(None, None)], r"^mask 1 is None: expected an image file"),
    ],
)
def test_settings_refuse_what_are_no_masks(masks, message):
    with pytest.raises(ValueError, match=message):
        Settings(masks=masks)


def test_blend_weights_that_blend_nothing_are_refused(photo, painting, sky, half):
    settings = Settings(**QUICK, masks=[(sky, half)], style_weights=[1, 2])
    with pytest.raises(ValueError, match="style_weights are given"):
        load_pictures(photo, [painting, photo], settings)
    nothing = replace(settings, style_weights=[1, 0, 0])
    with pytest.raises(ValueError, match="style_weights are 0"):
        load_pictures(photo, [painting, photo, photo], nothing)


def test_a_part_that_keeps_the_content_is_nearer_to_it(photo, painting, sky):
    kept = stylize(photo, painting, masks=[(sky, None)], **{**QUICK, "iterations": 8})
    painted = stylize(photo, painting, **{**QUICK, "iterations": 8})
    original, *others = (np.asarray(x, float)[:10] for x in (photo, kept, painted))
    errors = [np.abs(other - original).mean() for other in others]
    assert errors[0] < 0.5 * errors[1]


def test_a_run_names_its_masks_for_records(photo, painting, sky, half, tmp_path):
    Image.fromarray((255 * sky).astype(np.uint8)).save(tmp_path / "sky.png")
    pairs = [(tmp_path / "sky.png", half), (1 - sky, None)]
    result = style_transfer(photo, painting, Settings(**QUICK, masks=pairs))
    named = [[str(tmp_path / "sky.png"), "array"], ["array", "none"]]
    assert result.parameters["masks"] == named
    assert json.loads(json.dumps(result.parameters, default=str))["masks"] == named
    assert style_transfer(photo, painting, Settings(**QUICK)).parameters["masks"] is None


@pytest.mark.parametrize("more", [{"tile": 16}, {"scales": {24: 2}}, {"engine": "eager"}], ids=str)
def test_masks_go_with_tiles_scales_and_engines(photo, painting, sky, half, more):
    settings = Settings(**{**QUICK, "masks": [(sky, half)], **more})
    result = style_transfer(photo, painting, settings)
    assert result.parameters["iterations_done"] == 3 + 2 * ("scales" in more)
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < losses[-3]


def test_other_masks_have_an_engine_of_their_own(photo, painting, sky, half):
    results = [
        style_transfer(photo, painting, Settings(**QUICK, masks=masks)).rgb
        for masks in (None, [(sky, half)], [(1 - sky, half)], [(sky, half)])
    ]
    assert len(ENGINE_CACHE) == 3
    assert torch.equal(results[1], results[3])
    assert not torch.equal(results[1], results[2])
    assert not torch.equal(results[0], results[1])


def test_a_checkpoint_knows_its_masks_again(photo, painting, sky, half, tmp_path):
    settings = Settings(**{**QUICK, "iterations": 6, "masks": [(sky, half)]})
    whole = style_transfer(photo, painting, settings)
    path = tmp_path / "run.safetensors"

    def stop(step):
        if step.iteration == 4:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        style_transfer(photo, painting, settings, stop, keep=CheckpointConfig(path, 2))
    resumed = style_transfer(photo, painting, settings, resume=path)
    assert torch.equal(resumed.rgb, whole.rgb)
    for masks, message in [
        ([(1 - sky, half)], "the mask 1 differs"),
        ([(sky, 1 - half)], "the mask 1 of a style differs"),
        ([(sky, "whole")], r"with masks \['a mask'\], and this run has \['whole'\]"),
        (None, "masks"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            style_transfer(photo, painting, replace(settings, masks=masks), resume=path)


def test_a_batch_has_the_same_masks_for_every_content(photo, painting, sky, half):
    settings = Settings(**QUICK, masks=[(sky, half)])
    other = photo.transpose(0)
    errors = []
    found = list(
        stylize_batch(
            [photo, painting, other], painting, settings,
            on_error=lambda content, error: errors.append((content, str(error))),
        )
    )  # fmt: skip
    alone = style_transfer(other, painting, settings)
    assert torch.equal(found[2].rgb, alone.rgb)
    assert found[1] is None
    ((content, message),) = errors
    assert content is painting
    assert "aspect" in message


def test_the_plan_counts_regions(photo, painting, sky, half):
    pixels = 48 * 32
    counts = [
        Choices.of(Settings(**QUICK, masks=masks), pixels).regions
        for masks in (None, [(sky, None)], [(sky, half)], [(sky, half), (1 - sky, "whole")])
    ]
    assert counts == [0, 1, 2, 3]

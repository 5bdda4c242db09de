"""``Settings.color`` in a run: what the network sees, what the picture shows, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from stylebench import CheckpointConfig, Settings, style_transfer, stylize_batch
from stylebench.image.color import luminance, match_colors
from stylebench.image.load import load_image, resize
from stylebench.image.save import read_parameters
from stylebench.transfer.checkpoint import CheckpointError
from stylebench.transfer.input_hashes import input_hashes
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.problem import build_problem

from .problems import SHALLOW, problem_of

QUICK = Settings(
    weights="random", size=32, iterations=3, device="cpu", engine="eager", precision="fp32",
    **SHALLOW,
)  # fmt: skip


def chrominance(rgb):
    return rgb - luminance(rgb)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "fp64"])
def test_the_result_has_the_contents_chrominance_at_its_size(photo, painting, precision):
    settings = replace(QUICK, color="content-luminance", precision=precision)
    result = style_transfer(photo, painting, settings)
    content = resize(load_image(photo).rgb, result.rgb.shape[-2:])
    inside = ((result.rgb > 0) & (result.rgb < 1)).all(dim=0)  # where nothing was clamped
    assert inside.float().mean() > 0.3
    off = (chrominance(result.rgb) - chrominance(content))[:, inside]
    assert off.abs().max() < 1e-6
    assert (luminance(result.rgb) - luminance(content)).abs().mean() > 0.02


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("color", ["content-luminance", "match"])
def test_engines_agree_on_recolored_pictures(photo, painting, color, engine):
    wanted = replace(QUICK, color=color, engine="reference", precision="fp64")
    oracle = problem_of(photo, painting, wanted)
    problem = problem_of(photo, painting, replace(wanted, engine=engine))
    expected, gradient = oracle.engine.loss_and_grad(oracle.image)
    terms, found = problem.engine.loss_and_grad(problem.image)
    torch.testing.assert_close(terms.values, expected.values, rtol=1e-9, atol=0)
    torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-9 * gradient.abs().max())


def test_every_scale_sees_the_same_recolored_pictures(photo, painting):
    settings = replace(QUICK, color="match")
    inputs = load_inputs(photo, painting, settings)
    whole = load_image(painting).rgb
    expected = match_colors(whole, load_image(photo).rgb).clamp(0, 1)
    assert torch.equal(inputs.styles[0].rgb, expected)
    for size in (24, 32):
        problem = build_problem(inputs, replace(settings, size=size, init="style"))
        rgb = resize(expected, problem.image.shape[-2:])
        torch.testing.assert_close(problem.rgb(problem.image), rgb, rtol=0, atol=1e-6)


def test_the_network_sees_luminance_alone(photo, painting):
    problem = problem_of(photo, painting, replace(QUICK, color="content-luminance"))
    seen = problem.preprocessing.invert(problem.image)[0]
    torch.testing.assert_close(seen, luminance(seen), rtol=0, atol=1e-6)
    (style,) = load_inputs(photo, painting, replace(QUICK, color="content-luminance")).styles
    assert torch.equal(style.rgb, style.rgb[:1].expand_as(style.rgb))


def test_what_cannot_be_seen_of_the_content_does_not_count(photo, painting):
    rgba = np.dstack([np.asarray(photo), np.full((32, 48), 255, dtype=np.uint8)])
    rgba[:, :20, 3] = 0
    cut = Image.fromarray(np.ascontiguousarray(np.asarray(photo)[:, 20:]))
    settings = replace(QUICK, color="match")
    hidden = load_inputs(Image.fromarray(rgba), painting, settings).styles[0].rgb
    cropped = load_inputs(cut, painting, settings).styles[0].rgb
    torch.testing.assert_close(hidden, cropped, rtol=0, atol=1e-6)


def test_each_picture_of_a_batch_keeps_its_own_colors(photo, painting):
    contents = [photo, photo.rotate(180), Image.new("RGB", (48, 32), (200, 30, 90))]
    for color in ("content-luminance", "match"):
        settings = replace(QUICK, color=color)
        alone = [style_transfer(content, painting, settings).rgb for content in contents]
        together = [result.rgb for result in stylize_batch(contents, painting, settings)]
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_choice_is_in_the_file_and_in_the_checkpoint(photo, painting, tmp_path):
    keep = CheckpointConfig(tmp_path / "run", every=2)
    settings = replace(QUICK, color="content-luminance", iterations=4)
    result = style_transfer(photo, painting, settings, keep=keep)
    assert read_parameters(result.save(tmp_path / "a.png"))["color"] == "content-luminance"
    longer = replace(settings, iterations=6)
    resumed = style_transfer(photo, painting, longer, resume=keep.path)
    assert torch.equal(resumed.rgb, style_transfer(photo, painting, longer).rgb)
    with pytest.raises(CheckpointError, match="color 'content-luminance', and this run has 'ma"):
        style_transfer(photo, painting, replace(longer, color="match"), resume=keep.path)
    repainted = Image.merge("RGB", [luminance_of(photo)] * 3)  # of another color, no more
    with pytest.raises(CheckpointError, match="other pictures or weights: the content differs"):
        style_transfer(repainted, painting, longer, resume=keep.path)


@pytest.mark.parametrize("color", ["content-luminance", "match"])
def test_pictures_are_known_again_as_they_were_loaded(photo, painting, color):
    """The recolored ones may differ in a bit from machine to machine."""
    as_loaded = input_hashes(load_inputs(photo, painting, replace(QUICK, color="style")))
    assert input_hashes(load_inputs(photo, painting, replace(QUICK, color=color))) == as_loaded


def luminance_of(image):
    values = luminance(load_image(image).rgb)[0].mul(255).round().byte().numpy()
    return Image.fromarray(values)


def test_a_step_shows_the_contents_colors(photo, painting):
    pictures = []
    settings = replace(QUICK, color="content-luminance")
    style_transfer(photo, painting, settings, lambda step: pictures.append(step.picture()))
    content = resize(load_image(photo).rgb, (21, 32))
    shown = load_image(pictures[-1]).rgb
    inside = ((shown > 0) & (shown < 1)).all(dim=0)
    off = (chrominance(shown) - chrominance(content))[:, inside]
    assert off.abs().max() < 1 / 255  # of rounding


def test_an_unknown_color_is_refused():
    with pytest.raises(ValueError, match="unknown color 'ycbcr': expected one of style, content-l"):
        Settings(color="ycbcr")

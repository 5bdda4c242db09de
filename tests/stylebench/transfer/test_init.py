"""Starting images by name: their pixels, the names, and files that are called like them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stylebench import CheckpointConfig, Settings, style_transfer
from stylebench.image.load import load_image, resize
from stylebench.transfer.checkpoint import CheckpointError
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.problem import build_problem
from stylebench.transfer.schedule import warm_start

from .problems import SHALLOW, problem_of

QUICK = Settings(
    weights="random", size=32, iterations=3, device="cpu", engine="eager", precision="fp64",
    **SHALLOW,
)  # fmt: skip


def start_of(photo, painting, **settings):
    """RGB [3, H, W] in fp64, not clamped: noise is beyond what a picture holds."""
    problem = problem_of(photo, painting, replace(QUICK, **settings))
    return problem.preprocessing.invert(problem.image)[0]


def test_content_and_noise_are_mixed_by_the_share_of_noise(photo, painting):
    content = resize(load_image(photo).rgb, (21, 32)).double()
    noise = start_of(photo, painting, init="noise", seed=3)
    for share in (0.0, 0.2, 0.75, 1.0):
        mixed = start_of(photo, painting, init=f"content+noise:{share}", seed=3)
        expected = (1 - share) * content + share * noise
        torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-6)  # mixed in fp32
    other = start_of(photo, painting, init="content+noise:0.2", seed=4)
    assert not torch.equal(other, start_of(photo, painting, init="content+noise:0.2", seed=3))


def test_gray_is_the_middle_and_mean_the_mean_color_of_the_styles(photo, painting):
    gray = start_of(photo, painting, init="gray")
    torch.testing.assert_close(gray, torch.full_like(gray, 0.5), rtol=0, atol=1e-12)
    mean = start_of(photo, [painting, photo], init="mean", style_weights=[3, 1])
    of_each = [load_image(image).rgb.double().mean((1, 2)) for image in (painting, photo)]
    expected = (0.75 * of_each[0] + 0.25 * of_each[1])[:, None, None].expand_as(mean)
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("content+noise:", "init is 'content.noise:': expected a share of noise from 0 to 1, as"),
        ("content+noise:1.5", "'content.noise:1.5': expected a share of noise from 0 to 1"),
        ("content+noise:-0.1", "expected a share of noise from 0 to 1"),
        ("content+noise:nan", "expected a share of noise from 0 to 1"),
        ("content+noise:1/2", "expected a share of noise from 0 to 1"),
        ("content+noise", "unknown init 'content.noise': expected content, .*content.noise:SHARE"),
        ("grey", "unknown init 'grey': expected content, noise, style, gray, mean"),
        (Path("gray"), "unknown init 'gray'"),
    ],
)
def test_a_start_that_cannot_be_is_named(init, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        Settings(init=init)


@pytest.mark.parametrize("name", ["gray", "noise", "content+noise:0.2"])
def test_a_file_called_like_a_name_is_one_by_its_path(photo, painting, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    painting.save(tmp_path / name, "PNG")
    expected = resize(load_image(painting).rgb, (21, 32)).double()
    for file in (f"./{name}", Path(name), str(tmp_path / name)):
        assert torch.equal(start_of(photo, painting, init=file).float(), expected.float())
        assert replace(QUICK, init=file).starts_from_file
    assert not replace(QUICK, init=name).starts_from_file
    assert not torch.equal(start_of(photo, painting, init=name).float(), expected.float())


def test_the_noise_of_a_small_size_is_not_carried_to_the_next(photo, painting):
    settings = replace(QUICK, init="content+noise:0.5")
    inputs = load_inputs(photo, painting, replace(settings, init="content"))
    small = build_problem(inputs, replace(settings, size=24))
    large = build_problem(inputs, settings)
    # A small image that lost its noise and became the content: so does the large one.
    moved = warm_start(small.start, small.start, large)
    content = build_problem(inputs, replace(settings, init="content")).image
    assert torch.equal(moved.image, content)
    assert (large.image - content).abs().mean() > 0.1 * content.std()
    result = style_transfer(photo, painting, replace(settings, scales=[24]))
    assert result.parameters["schedule"] == {24: 3, 32: 3}


def test_a_mixture_is_known_again_by_its_share(photo, painting, tmp_path):
    keep = CheckpointConfig(tmp_path / "run", every=2)
    settings = replace(QUICK, init="content+noise:0.20", precision="fp32")
    result = style_transfer(photo, painting, settings, keep=keep)
    assert result.parameters["init"] == "content+noise:0.2"
    longer = replace(settings, iterations=5)
    resumed = style_transfer(photo, painting, longer, resume=keep.path)
    assert torch.equal(resumed.rgb, style_transfer(photo, painting, longer).rgb)
    with pytest.raises(CheckpointError, match=r"init 'content\+noise:0.2', and this run has"):
        style_transfer(photo, painting, replace(longer, init="content+noise:0.3"), resume=keep.path)

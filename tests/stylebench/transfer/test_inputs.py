"""Inputs are loaded once a run, and what cannot be is refused before weights are."""

import contextlib
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from stylebench import Diverged, ImageError, Settings, style_transfer
from stylebench.model.weights import random_weights
from stylebench.transfer import inputs as loading
from stylebench.transfer.inputs import fit_pictures
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.problem import build_problem

QUICK = {"weights": "random", "device": "cpu", "size": 48, "iterations": 4, "engine": "fused"}


@pytest.fixture
def calls(monkeypatch):
    """Names of the loaders that were called, in order."""
    names = []
    for name in ("load_image", "load_weights"):
        original = getattr(loading, name)

        def load(source, name=name, original=original):
            names.append(name)
            return original(source)

        monkeypatch.setattr(loading, name, load)
    return names


def test_a_run_of_three_phases_loads_every_input_once(photo, painting, calls):
    settings = Settings(**QUICK, precision="bf16", polish=2, scales={24: 2})
    result = style_transfer(photo, [painting, painting], settings)
    assert result.parameters["iterations_done"] == 6
    assert calls == ["load_image", "load_image", "load_image", "load_weights"]


def test_a_picture_deleted_between_two_phases_is_not_missed(photo, painting, tmp_path):
    photo.save(tmp_path / "photo.png")
    painting.save(tmp_path / "painting.png")
    painting.save(tmp_path / "start.png")

    def delete(problem):
        for file in tmp_path.iterdir():
            file.unlink()

    settings = Settings(**QUICK, scales=[24], init=tmp_path / "start.png")
    result = style_transfer(
        tmp_path / "photo.png", tmp_path / "painting.png", settings, on_start=delete
    )
    assert list(tmp_path.iterdir()) == []
    assert result.parameters["iterations_done"] == 8
    assert result.image.size == (48, 32)


def test_a_size_too_small_is_refused_before_weights_are_loaded(photo, painting, calls):
    with pytest.raises(ImageError, match="too small for relu5_1"):
        load_inputs(photo, painting, Settings(**QUICK | {"size": 64}, scales=[20]))
    assert "load_weights" not in calls


def framed(size, box, alpha=255):
    """A noisy RGBA picture of ``size``, transparent but for ``box``."""
    values = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 4)).astype(np.uint8)
    values[..., 3] = 0
    left, top, right, bottom = box
    values[top:bottom, left:right, 3] = alpha
    return Image.fromarray(values)


@pytest.mark.parametrize("alpha", [255, 200])
def test_a_style_is_its_opaque_part(photo, alpha):
    style = framed((80, 60), (10, 20, 50, 50), alpha)
    told = pytest.warns(UserWarning, match="transparent parts are taken as white paint")
    with told if alpha < 255 else contextlib.nullcontext():
        inputs = load_inputs(photo, style, Settings(**QUICK))
    (part,) = inputs.styles
    assert part.size == (30, 40)
    if alpha == 255:
        cropped = load_inputs(photo, style.crop((10, 20, 50, 50)).convert("RGB"), Settings(**QUICK))
        assert torch.equal(part.rgb, cropped.styles[0].rgb)


def test_transparency_inside_the_opaque_part_is_told(photo):
    style = framed((80, 60), (10, 20, 50, 50))
    style.paste((0, 0, 0, 0), (20, 30, 30, 40))
    with pytest.warns(UserWarning, match="style PIL image: its transparent parts"):
        assert load_inputs(photo, style, Settings(**QUICK)).styles[0].size == (30, 40)


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (5, 5, 6, 40)])
def test_a_style_that_cannot_be_seen_is_refused(photo, box):
    with pytest.raises(ImageError, match="PIL image: hardly a pixel is opaque"):
        load_inputs(photo, framed((80, 60), box), Settings(**QUICK))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_square_style_beside_a_panorama_has_the_panoramas_area(painting, scale):
    panorama = Image.effect_noise((1024, 32), 60).convert("RGB")
    settings = Settings(**QUICK | {"size": 1024}, style_scale=scale)
    with pytest.warns(UserWarning, match=r"style PIL image: taken at (\d+) x \1 px"):
        inputs = load_inputs(panorama, painting, settings)
    (height, width) = fit_pictures(inputs, settings, 1024).styles[0]
    assert height == width
    assert height * width == pytest.approx(1024 * 32 * scale**2, rel=0.02)


@pytest.mark.parametrize(("content", "style"), [((128, 32), (40, 40)), ((64, 64), (200, 50))])
def test_ordinary_pairs_share_the_longest_side(content, style):
    content, style = (Image.effect_noise(size, 60).convert("RGB") for size in (content, style))
    settings = Settings(**QUICK | {"size": 128})
    inputs = load_inputs(content, style, settings)
    assert max(fit_pictures(inputs, settings, 128).styles[0]) == 128


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            {"style_weight": 1e300},
            r"style_weight is 1e\+300: too large, the factor of 'style relu1_1' is 5.9",
        ),
        ({"content_weight": 1e60}, r"^content_weight is 1e\+60: too large"),
        ({"style_weight": 1e-60}, "style_weight is 1e-60: too small, the factor of 'style relu1_1"),
        (
            {"content_layers": {"relu4_2": 1e300}},
            r"^the weight of relu4_2 in content_layers is 1e\+300: too large",
        ),
        (
            {"style_layers": {"relu1_1": 1.0, "relu2_1": 1e-300}},
            "^the weight of relu2_1 in style_layers is 1e-300: too small",
        ),
        (
            {"content_weight": 0, "style_weight": 0},
            "content_weight and style_weight and tv_weight come to 0 everywhere: there is no loss",
        ),
        ({"tv_weight": 1e39}, r"tv_weight is 1e\+39: too large, the factor of 'tv'"),
        ({"style_layers": {"relu1_1": 1e300}, "style_weight": 1e300}, "'style relu1_1' is inf"),
    ],
)
def test_a_weight_that_overflows_is_named_before_weights_are_loaded(
    photo, painting, calls, choices, message
):
    with pytest.raises(ValueError, match=message):
        load_inputs(photo, painting, Settings(**QUICK, **choices))
    assert "load_weights" not in calls


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"style_weight": 1e39}, r"at iteration 1; .*before\. style_weight is 1e\+39: lower"),
        ({"tv_weight": 1e38}, r"'tv' .*at iteration 1; .*before\. tv_weight is 1e\+38: lower"),
        (
            {"style_layers": {"relu1_1": 1e39}},
            r"at iteration 1; .*before\. the weight of relu1_1 in style_layers is 1e\+39: lower",
        ),
    ],
)
def test_a_loss_that_overflows_names_its_weight_and_value(photo, painting, choices, message):
    settings = Settings(**QUICK, **choices, precision="fp32")
    with pytest.raises(Diverged, match=message):
        style_transfer(photo, painting, settings)


def test_init_is_whatever_content_may_be(photo, painting, tmp_path):
    painting.save(tmp_path / "start.png")
    array = np.asarray(painting)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    names = {}
    images = []
    for init in (tmp_path / "start.png", painting, array, tensor):
        result = style_transfer(photo, painting, Settings(**QUICK, init=init))
        names[type(init).__name__] = result.parameters["init"]
        images.append(result.rgb)
    assert all(torch.equal(image, images[0]) for image in images)
    assert names == {
        "PosixPath": str(tmp_path / "start.png"), "Image": "PIL image", "ndarray": "array",
        "Tensor": "tensor",
    }  # fmt: skip


def test_the_size_content_is_the_contents_own(photo, painting):
    settings = Settings(**QUICK | {"size": "content", "iterations": 1})
    result = style_transfer(photo, painting, settings)
    assert result.image.size == photo.size
    assert result.parameters["size"] == 48


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"callback": 3}, "callback is 3: expected a function, or None"),
        ({"on_start": "print"}, "on_start is 'print': expected a function, or None"),
        ({"resume": 3}, "resume is 3: expected the file of a checkpoint"),
        ({"sync_every": -1}, "sync_every is -1: expected a whole number of 0 or more"),
        ({"settings": {"size": 3}}, "settings is {'size': 3}: expected stylebench.Settings"),
    ],
)
def test_arguments_of_other_types_are_named(photo, painting, arguments, message):
    with pytest.raises(ValueError, match=message):
        style_transfer(photo, painting, **{"settings": Settings(**QUICK), **arguments})


def test_the_last_phase_takes_the_weights_with_it(photo, painting, monkeypatch):
    monkeypatch.setattr("stylebench.model.weights.random_weights", random_weights)  # no cache
    settings = Settings(**QUICK, precision="bf16")
    inputs = load_inputs(photo, painting, settings)
    weight = weakref.ref(inputs.weights.layers["conv4_1"][0])
    build_problem(inputs, settings)
    assert weight() is not None
    problem = build_problem(inputs, settings, last=True)
    assert inputs.weights is None
    assert weight() is None  # the engine's own are bf16
    assert problem.engine.name == "fused"
    with pytest.raises(RuntimeError, match="weights were taken"):
        build_problem(inputs, settings)

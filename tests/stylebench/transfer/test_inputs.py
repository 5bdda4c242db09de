"""Inputs are loaded once a run, and what cannot be is refused before weights are."""

import weakref

import pytest

from stylebench import ImageError, Settings, style_transfer
from stylebench.model.weights import random_weights
from stylebench.transfer import inputs as loading
from stylebench.transfer.inputs import load_inputs
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

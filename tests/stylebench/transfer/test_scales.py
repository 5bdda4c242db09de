"""``auto`` scales: which sizes a run goes through, and how long it stays at each."""

from dataclasses import replace

import pytest
import torch

from stylebench.transfer.api import style_transfer
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.scales import with_scales
from stylebench.transfer.settings import Settings


def schedule(shape=(300, 400), style=(200, 300), **choices):
    settings = Settings(weights="random", **{"size": 512, "iterations": 300, **choices})
    inputs = load_inputs(torch.rand(3, *shape), torch.rand(3, *style), settings)
    return with_scales(settings, inputs).schedule()


def test_sizes_down_to_64_px_have_half_of_the_iterations_and_then_a_quarter():
    assert schedule() == {64: 150, 128: 75, 256: 75, 512: 300}
    assert schedule(size=1024) == {64: 150, **dict.fromkeys((128, 256, 512), 75), 1024: 300}
    assert schedule(size=384, iterations=101) == {96: 51, 192: 26, 384: 101}


@pytest.mark.parametrize(
    "choices",
    [{"size": 191}, {"iterations": 49}, {"scales": "none"}, {"scales": None}],
)
def test_small_pictures_short_runs_and_none_keep_their_one_size(choices):
    found = schedule(**choices)
    assert found == {choices.get("size", 512): choices.get("iterations", 300)}


def test_a_scale_that_is_too_small_for_a_picture_is_left_out():
    assert min(schedule(shape=(100, 400))) == 256, "48 px on the shorter side"
    assert min(schedule(style=(30, 400))) == 256, "16 px of a style image, for relu5_1"


def test_a_run_from_a_file_keeps_its_one_size(tmp_path, photo):
    photo.save(tmp_path / "start.png")
    assert schedule(init=str(tmp_path / "start.png")) == {512: 300}


def test_scales_that_were_asked_for_are_kept():
    assert schedule(scales=[128]) == {128: 300, 512: 300}


def test_unknown_scales_are_named():
    with pytest.raises(ValueError, match=r"^scales is 'fine': expected 'auto', 'none', sizes"):
        Settings(scales="fine")


def test_a_run_goes_through_them(photo, painting, monkeypatch):
    monkeypatch.setattr("stylebench.transfer.scales.FROM_SIZE", 64)
    monkeypatch.setattr("stylebench.transfer.scales._LONGER", 32)
    monkeypatch.setattr("stylebench.transfer.scales._SHORTER", 16)
    monkeypatch.setattr("stylebench.transfer.scales._LEAST_ITERATIONS", 4)
    settings = Settings(weights="random", size=64, iterations=4, device="cpu", precision="fp32")
    shallow = replace(settings, content_layers="relu1_2", style_layers="relu1_1")
    seen = []
    result = style_transfer(photo, painting, shallow, callback=lambda step: seen.append(step))
    assert result.parameters["schedule"] == {32: 2, 64: 4}
    assert result.parameters["iterations"] == 6
    assert len(result.history) == 6
    assert result.rgb.shape == (3, 43, 64)

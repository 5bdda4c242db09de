"""Settings: bad values are refused before anything is computed, by name and with the choices."""

from dataclasses import replace

import pytest

from stylebench.model.presets import PRESETS
from stylebench.transfer.settings import Settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "vangogh"}, "unknown preset 'vangogh': expected one of paper, gatys-pytorch"),
        ({"engine": "warp"}, "unknown engine 'warp': expected one of auto, .*reference"),
        ({"precision": "int8"}, "unknown precision 'int8': expected one of auto, .*fp32"),
        (
            {"optimizer": "sgd"},
            "unknown optimizer 'sgd': expected one of auto, lbfgs, torch-lbfgs, adam",
        ),
        ({"pooling": "min"}, "unknown pooling 'min': expected 'average' or 'max'"),
        (
            {"init": "blank"},
            "unknown init 'blank': expected content, noise, style or an image file",
        ),
        ({"size": 0}, "size is 0: expected a whole number of 1 or more"),
        ({"size": 99.5}, "size is 99.5: expected a whole number"),
        ({"iterations": -3}, "iterations is -3: expected a whole number"),
        ({"iterations": True}, "iterations is True: expected a whole number"),
        ({"history": 0}, "history is 0: expected a whole number"),
        ({"style_scale": 0}, "style_scale is 0: expected a number above 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0: expected a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"seed": -1}, "seed is -1: expected a whole number from 0"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"content_weight": -1}, "content_weight is -1: expected a finite number >= 0"),
        ({"style_layers": ["relu9_9"]}, "unknown layer 'relu9_9': expected conv1_1"),
    ],
)
def test_bad_values_are_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        Settings(**given)


def test_none_means_what_the_preset_says():
    for name, preset in PRESETS.items():
        assert Settings(preset=name).resolved_preset() == preset


def test_every_number_of_a_preset_can_be_overridden():
    given = {
        "content_layers": {"relu3_1": 2.0},
        "style_layers": {"conv1_1": 0.5, "conv2_1": 1.0},
        "content_weight": 3.0,
        "style_weight": 4.0,
        "tv_weight": 5.0,
        "pooling": "average",
        "normalize": True,
        "init": "noise",
        "size": 77,
        "iterations": 9,
    }
    preset = Settings(**given).resolved_preset()
    assert {name: getattr(preset, name) for name in given} == given


def test_zero_is_a_weight_not_a_default():
    preset = Settings(preset="neural-style-pt", tv_weight=0.0, content_weight=0.0).resolved_preset()
    assert (preset.tv_weight, preset.content_weight) == (0.0, 0.0)


def test_blend_is_normalized():
    assert Settings().normalized_style_weights(4) == [0.25] * 4
    assert Settings(style_weights=[3, 1]).normalized_style_weights(2) == [0.75, 0.25]


def test_former_names_are_still_understood():
    assert Settings(normalise=True) == Settings(normalize=True)
    assert Settings(normalise=False).resolved_preset().normalize is False
    assert Settings(preset="paper").resolved_preset().normalize is True
    assert replace(Settings(normalise=True), size=64).normalize is True
    assert Settings(engine="plain") == Settings(engine="eager")

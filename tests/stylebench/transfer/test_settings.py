"""Settings: bad values are refused before anything is computed, by name and with the choices."""

from dataclasses import fields, replace

import numpy as np
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
        ({"pooling": "min"}, "unknown pooling 'min': expected one of average, max"),
        (
            {"init": "blank"},
            "unknown init 'blank': expected content, noise, style, .* or an image file",
        ),
        ({"size": 0}, "size is 0: expected a whole number of 1 or more"),
        ({"size": 99.5}, "size is 99.5: expected a whole number"),
        ({"iterations": -3}, "iterations is -3: expected a whole number"),
        ({"iterations": True}, "iterations is True: expected a whole number"),
        ({"history": 0}, "history is 0: expected a whole number"),
        ({"style_scale": 0}, "style_scale is 0: expected a finite number above 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0: expected a finite number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"seed": -1}, "seed is -1: expected a whole number of 0 or more"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"content_weight": -1}, "content_weight is -1: expected a finite number >= 0"),
        (
            {"style_layers": ["relu9_9"]},
            "unknown layer 'relu9_9' in style_layers: expected conv1_1",
        ),
        ({"preset": []}, r"unknown preset \[\]: expected one of paper"),
        ({"size": "large"}, "size is 'large': expected a whole number of px, or 'content'"),
        ({"size": ""}, "size is '': expected a whole number of px, or 'content'"),
        ({"size": 10**30}, "size is 10+: expected a whole number below 2"),
        ({"iterations": 10**5000}, "iterations is a int: expected a whole number below 2"),
        ({"style_weights": [1e308, 1e308]}, "style_weights are .*with a finite sum"),
        ({"style_weights": [0, 0]}, "style_weights are .*not all of them 0"),
        ({"style_weights": [1e300, 1e-300]}, "the smallest would count as 0"),
        ({"style_weights": [1, float("nan")]}, "an entry of style_weights is nan"),
        ({"style_weights": "2,1"}, "style_weights is '2,1': expected one number a style image"),
        ({"style_weights": 2}, "style_weights is 2: expected one number a style image"),
        ({"style_weights": np.array(1.0)}, "style_weights is array"),
        ({"style_scale": "1"}, "style_scale is '1': expected a finite number above 0"),
        ({"style_scale": None}, "style_scale is None"),
        ({"style_scale": float("inf")}, "style_scale is inf: expected a finite number above 0"),
        ({"content_layers": {"relu4_2": float("nan")}}, "weight of relu4_2 in content_layers is n"),
        ({"content_layers": {"relu4_2": "1"}}, "weight of relu4_2 in content_layers is '1'"),
        ({"style_layers": ["relu1_1", "relu1_1"]}, "style_layers name 'relu1_1' twice"),
        ({"style_layers": [[1]]}, r"a layer of style_layers is \[1\]"),
        ({"style_layers": 3}, "style_layers is 3: expected names of layers"),
        ({"style_weight": float("nan")}, "style_weight is nan"),
        ({"tv_weight": 1j}, "tv_weight is 1j"),
        ({"pooling": ["max"]}, "unknown pooling"),
        ({"normalize": "no"}, "normalize is 'no': expected True or False"),
        ({"normalise": "no"}, "normalise is 'no': expected True or False"),
        ({"normalize": True, "normalise": False}, "normalize is True and normalise, .* is False"),
        ({"normalize": 1, "normalise": True}, "normalize is 1"),
        ({"normalize": 1}, "normalize is 1"),
        ({"weights": None}, "weights is None: expected auto, original, gatys"),
        ({"engine": []}, r"unknown engine \[\]"),
        ({"polish": -1}, "polish is -1: expected a whole number of 0 or more"),
        ({"polish": 3, "precision": "fp32"}, "polish is 3, and precision 'fp32' is polished by no"),
        ({"scales": [64, 64]}, "scales name 64 twice: expected each once"),
        ({"scales": [64, 32]}, "scales are 64, 32 px, then 512 px: expected each smaller"),
        ({"scales": 64}, r"scales is 64: expected 'auto', 'none', sizes as \[64, 128\] or size ->"),
        ({"scales": "32,32"}, r"scales is '32,32': expected 'auto', .* on the command line 64,128"),
        ({"scales": "Auto"}, "scales is 'Auto': expected 'auto', 'none'"),
        (
            {"content_layers": [], "style_layers": []},
            "content_layers and style_layers are empty and tv_weight is 0",
        ),
        ({"scales": {64: 0}}, "the number of iterations at 64 in scales is 0"),
        ({"optimizer": "adam", "history": 5}, "history is 5, which optimizer 'adam' does not have"),
        (
            {"optimizer": "adam", "history_dtype": "bf16"},
            "history_dtype is 'bf16', which optimizer",
        ),
        ({"optimizer": "adam", "tolerance_grad": 0.0}, "tolerance_grad is 0.0, which optimizer"),
        ({"history": 2**63}, "history is 9223372036854775808: expected a whole number below"),
        ({"learning_rate": 10**400}, "learning_rate is 10+...: expected a finite number above"),
        ({"learning_rate": 1e-300}, "learning_rate is 1e-300: expected 1.2e-38 or more: a smaller"),
        ({"tolerance_grad": float("nan")}, "tolerance_grad is nan: expected a finite number"),
        ({"tolerance_change": None}, "tolerance_change is None: expected a finite number"),
        (
            {"init": 3},
            "init is 3: expected content, noise, style, .*, an image file, PIL image",
        ),
        ({"init": ""}, "unknown init ''"),
        ({"seed": True}, "seed is True"),
        ({"seed": 2**63}, "seed is 9223372036854775808: expected a whole number below 2"),
        ({"device": 0}, "device is 0: expected cpu, cuda, cuda:N or mps"),
    ],
)
def test_bad_values_are_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message) as error:
        Settings(**given)
    assert "\n" not in str(error.value)


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no text of this")


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_no_field_takes_what_it_cannot_use_or_shows_a_traceback(name):
    for value in (object(), Unprintable(), b"x", 1j, 10**5000, [[1]], {"x": "y"}, np.array(None)):
        if name == "init" and isinstance(value, np.ndarray):
            continue  # an array, which the loader refuses
        with pytest.raises(ValueError, match="expected"):
            Settings(**{name: value})


def test_numbers_of_numpy_are_taken_as_pythons():
    settings = Settings(
        size=np.int64(64),
        iterations=np.uint8(3),
        style_scale=np.float32(1.5),
        style_weights=np.array([3, 1]),
        normalize=np.bool_(True),
        scales=np.array([16, 32]),
        seed=np.int32(7),
    )
    assert settings == Settings(
        size=64, iterations=3, style_scale=1.5, style_weights=[3.0, 1.0], normalize=True,
        scales=[16, 32], seed=7,
    )  # fmt: skip
    assert type(settings.size) is int
    assert type(settings.style_scale) is float


def test_a_generator_of_layers_is_used_up_once():
    settings = Settings(style_layers=(name for name in ("relu1_1", "relu2_1")))
    for _ in range(2):
        assert settings.resolved_preset().style_layers == {"relu1_1": 1.0, "relu2_1": 1.0}
    assert Settings(content_layers="relu1_1").content_layers == {"relu1_1": 1.0}


def test_the_size_content_is_the_contents_longest_side():
    settings = Settings(size="content", scales=[600])
    assert settings.sized((700, 900)).size == 900
    assert Settings(size=64).sized((700, 900)).size == 64
    with pytest.raises(ValueError, match="scales are 600 px, then 300 px"):
        settings.sized((300, 200))


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

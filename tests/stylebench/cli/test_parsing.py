"""What a user types becomes values, and what cannot is named."""

import re

import pytest

from stylebench.cli.parsing import (
    naming_options,
    parse_layers,
    parse_numbers,
    parse_scales,
    parse_tile,
    with_options,
)
from stylebench.files.paths import FileError


def test_layers_have_weight_1_unless_one_is_given():
    layers = parse_layers("--style-layers", " relu1_1, relu2_1 = 0.5 ")
    assert layers == {"relu1_1": 1.0, "relu2_1": 0.5}
    with pytest.raises(ValueError, match="--style-layers relu1_1=a: 'a' is not a number"):
        parse_layers("--style-layers", "relu1_1=a")


@pytest.mark.parametrize(
    "text", ["", " ", ",", "relu1_1,", "relu1_1,,relu2_1", "=1", "relu1_1, =2"]
)
def test_a_layer_of_no_name_is_refused(text):
    with pytest.raises(ValueError, match=f"--style-layers: '{text}' names a layer of no name"):
        parse_layers("--style-layers", text)


@pytest.mark.parametrize("text", ["relu1_1=", "relu1_1= ,relu2_1", "relu2_1,relu1_1=1=2"])
def test_a_weight_that_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match=r"--style-layers relu1_1=.*: '.*' is not a number"):
        parse_layers("--style-layers", text)


def test_scales_are_sizes_or_sizes_with_iterations():
    assert parse_scales("128,256") == [128, 256]
    assert parse_scales("128=300,256=100") == {128: 300, 256: 100}
    for text in ("128,256=100", "128=1=2", "big", "", "128,", ",128", "128,,256", "128=300,"):
        with pytest.raises(ValueError, match=f"--scales: '{text}' is not understood"):
            parse_scales(text)


def test_tiles_are_px_or_a_name_that_settings_judge():
    assert [parse_tile(text) for text in ("2048", "rows:96", "auto", "-1", "1" * 99)] == [
        2048, "rows:96", "auto", "-1", "1" * 99,
    ]  # fmt: skip


def test_numbers_name_the_option():
    assert parse_numbers("--style-weights", "2, 1") == [2.0, 1.0]
    for text, wrong in (("1,x", "x"), ("", ""), ("1,", ""), ("1,,2", "")):
        with pytest.raises(ValueError, match=f"--style-weights: '{wrong}' is not a number"):
            parse_numbers("--style-weights", text)


def test_what_is_not_typed_stays_none():
    assert parse_layers("--style-layers", None) is None
    assert (parse_scales("auto"), parse_scales("none")) == ("auto", "none")
    assert parse_numbers("--style-weights", None) is None


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("size is 0: expected a size", "--size is 0: expected a size"),
        ("unknown weights 'a'", "unknown --weights 'a'"),
        ("an entry of style_weights is nan", "an entry of --style-weights is nan"),
        ("the weight of relu1_1 in style_layers is -1", "the weight of relu1_1 in --style-layers"),
        ("iteration 1; none. style_weight is 2: lower", "iteration 1; none. --style-weight is 2"),
        ("2 style_weights for 1 style image", "2 --style-weights for 1 style image"),
        ("32 px: lower the size, or style_scale", "32 px: lower the size, or --style-scale"),
        ("2 GiB: lower history to 9 or less", "2 GiB: lower --history to 9 or less"),
        (
            "2 GiB: lower the size to 9 px or less, or history to 7 or less",
            "2 GiB: lower --size to 9 px or less, or --history to 7 or less",
        ),
        ("unknown layer 'a' in style_layers: e", "unknown layer 'a' in --style-layers: e"),
        ("sizes differ by weights", "sizes differ by weights"),
        ("a/style_weights: no", "a/style_weights: no"),
    ],
)
def test_errors_of_settings_name_options(message, named):
    names = (
        "size",
        "history",
        "weights",
        "style_weight",
        "style_weights",
        "style_layers",
        "style_scale",
    )
    with pytest.raises(ValueError, match=f"^{re.escape(named)}"), naming_options(names):
        raise ValueError(message)


def test_an_option_of_another_name_than_its_setting_is_named_as_it_is_typed():
    with pytest.raises(ValueError, match=r"^--mask is 3: expected"), naming_options(["masks"]):
        raise ValueError("masks is 3: expected pairs")


def test_messages_name_options_inside_the_block_alone():
    with naming_options(["style_scale"]):
        assert with_options("raise style_scale") == "raise --style-scale"
    assert with_options("raise style_scale") == "raise style_scale"


def test_names_of_one_word_alone_will_do():
    with pytest.raises(ValueError, match=r"^--size is 0 of a size$"), naming_options(["size"]):
        raise ValueError("size is 0 of a size")


def test_errors_of_files_stay_as_they_are():
    with pytest.raises(FileError, match=r"^size: no such file"), naming_options(["size"]):
        raise FileError("size: no such file")


def test_the_advice_of_an_error_of_a_file_names_options():
    message = "size.png: 9 x 9 px; raise the size or style_scale"
    named = r"^size.png: 9 x 9 px; raise --size or --style-scale$"
    with pytest.raises(ValueError, match=named), naming_options(["size", "style_scale"]):
        raise FileError(message)

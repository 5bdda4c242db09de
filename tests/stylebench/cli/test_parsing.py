"""What a user types becomes values, and what cannot is named."""

import pytest

from stylebench.cli.parsing import parse_layers, parse_numbers, parse_scales


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


def test_numbers_name_the_option():
    assert parse_numbers("--style-weights", "2, 1") == [2.0, 1.0]
    for text, wrong in (("1,x", "x"), ("", ""), ("1,", ""), ("1,,2", "")):
        with pytest.raises(ValueError, match=f"--style-weights: '{wrong}' is not a number"):
            parse_numbers("--style-weights", text)


def test_what_is_not_typed_stays_none():
    assert parse_layers("--style-layers", None) is None
    assert (parse_scales("auto"), parse_scales("none")) == ("auto", "none")
    assert parse_numbers("--style-weights", None) is None

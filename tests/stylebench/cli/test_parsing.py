"""What a user types becomes values, and what cannot is named."""

import pytest

from stylebench.cli.parsing import parse_layers, parse_numbers, parse_scales


def test_layers_have_weight_1_unless_one_is_given():
    layers = parse_layers("--style-layers", "relu1_1, relu2_1=0.5,")
    assert layers == {"relu1_1": 1.0, "relu2_1": 0.5}
    with pytest.raises(ValueError, match="--style-layers relu1_1=a: 'a' is not a number"):
        parse_layers("--style-layers", "relu1_1=a")


def test_scales_are_sizes_or_sizes_with_iterations():
    assert parse_scales("128,256") == [128, 256]
    assert parse_scales("128=300,256=100") == {128: 300, 256: 100}
    for text in ("128,256=100", "128=1=2", "big", ""):
        with pytest.raises(ValueError, match=f"--scales: '{text}' is not understood"):
            parse_scales(text)


def test_numbers_name_the_option():
    assert parse_numbers("--style-weights", "2, 1") == [2.0, 1.0]
    with pytest.raises(ValueError, match="--style-weights: 'x' is not a number"):
        parse_numbers("--style-weights", "1,x")


def test_what_is_not_typed_stays_none():
    assert parse_layers("--style-layers", None) is None
    assert (parse_scales("auto"), parse_scales("none")) == ("auto", "none")
    assert parse_numbers("--style-weights", None) is None

"""Every preset against its publication's formula, written out, on random features."""

from dataclasses import replace

import pytest
import torch

from stylebench.model.losses import content_loss, style_loss
from stylebench.model.objective import Objective
from stylebench.model.presets import PRESETS, Preset, preset
from stylebench.model.vgg import feature_shapes

HEIGHT, WIDTH = 32, 48
RELU = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


@pytest.fixture(scope="module")
def random_features():
    generator = torch.Generator().manual_seed(0)

    def make(names):
        shapes = feature_shapes(names, HEIGHT, WIDTH)
        return {
            name: torch.randn(1, N, M, 1, dtype=torch.float64, generator=generator)
            for name, (N, M) in shapes.items()
        }

    return make


def raw_gram(F):
    F = F.flatten(2)[0]
    return F @ F.T


def published_style(name, F, S):
    """One layer's style loss as the publication writes it, F and S sized alike."""
    N, M = F.shape[1], F.shape[2]
    G, A = raw_gram(F), raw_gram(S)
    mse = torch.nn.functional.mse_loss
    return {
        # E_l = sum (G - A)^2 / (4 N^2 M^2), weighted by beta / 5
        "paper": lambda: 1e3 / 5 * (G - A).square().sum() / (4 * N**2 * M**2),
        # GramMSELoss with weights 1e3 / n^2
        "gatys-pytorch": lambda: 1e3 / N**2 * mse(G / M, A / M),
        # Grams over the number of elements, mean squared error
        "neural-style": lambda: 1e2 * mse(G / (N * M), A / (N * M)),
        "neural-style-pt": lambda: 1e2 * mse(G / (N * M), A / (N * M)),
        "pytorch-tutorial": lambda: 1e6 * mse(G / (N * M), A / (N * M)),
        # summed squared error, averaged over the five layers
        "gordicaleksa": lambda: 3e4 / 5 * mse(G / (N * M), A / (N * M), reduction="sum"),
        "pystiche": lambda: 1e3 / 5 * mse(G / M, A / M),
        # gram_mse_loss: weight / 4 * sum (G - A)^2 / N^2, with a weight of 1e9 each
        "deep-textures": lambda: 1e9 / 4 * (G / M - A / M).square().sum() / N**2,
    }[name]()


def published_content(name, F, P):
    mse = torch.nn.functional.mse_loss(F, P)
    return {
        "paper": lambda: 0.5 * (F - P).square().sum(),
        "gatys-pytorch": lambda: mse,
        "neural-style": lambda: 5 * mse,
        "neural-style-pt": lambda: 5 * mse,
        "pytorch-tutorial": lambda: mse,
        "gordicaleksa": lambda: 1e5 * mse,
        "pystiche": lambda: mse,
    }[name]()


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_its_publications_formula(name, random_features):
    chosen = PRESETS[name]
    objective = chosen.objective(HEIGHT, WIDTH)
    F, S = random_features(chosen.taps), random_features(chosen.taps)
    for layer, weight in objective.style.items():
        A = raw_gram(S[layer])[None] / S[layer].shape[2]
        torch.testing.assert_close(
            style_loss(F[layer], A, weight), published_style(name, F[layer], S[layer])
        )
    for layer, weight in objective.content.items():
        torch.testing.assert_close(
            content_loss(F[layer], S[layer], weight), published_content(name, F[layer], S[layer])
        )


@pytest.mark.parametrize("name", PRESETS)
def test_preset_uses_its_publications_layers(name):
    content, style = {
        "pytorch-tutorial": (("conv2_2",), ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")),
        "deep-textures": ((), ("relu1_1", "pool1", "pool2", "pool3", "pool4")),
    }.get(name, (("relu4_2",), RELU))
    assert tuple(PRESETS[name].style_layers) == style
    assert tuple(PRESETS[name].content_layers) == content


def test_gatys_pytorch_is_neural_style_with_other_weights():
    changed = replace(PRESETS["neural-style"], content_weight=1.0, style_weight=1e3, tv_weight=0.0)
    ours = PRESETS["gatys-pytorch"].objective(HEIGHT, WIDTH)
    theirs = changed.objective(HEIGHT, WIDTH)
    assert (ours.content, ours.style, ours.tv) == (theirs.content, theirs.style, theirs.tv)


def test_neural_style_variants_differ_in_total_variation_only():
    lua, pt = PRESETS["neural-style"], PRESETS["neural-style-pt"]
    assert (lua.tv_weight, lua.tv_kind) == (0.5e-3, "l2")
    assert (pt.tv_weight, pt.tv_kind) == (1e-3, "l1")
    assert replace(pt, source=lua.source, tv_weight=lua.tv_weight, tv_kind="l2") == lua


def test_paper_averages_pools_normalizes_and_starts_from_noise():
    paper = PRESETS["paper"]
    assert (paper.pooling, paper.normalize, paper.init) == ("average", True, "noise")
    assert paper.style_fit == "content"


def test_terms_name_every_layer_in_order():
    objective = Objective({"relu4_2": 1.0}, {"relu1_1": 1.0, "relu2_1": 1.0}, tv=0.1)
    assert objective.terms == ("content relu4_2", "style relu1_1", "style relu2_1", "tv")


def test_a_layer_may_serve_content_and_style():
    chosen = replace(PRESETS["gatys-pytorch"], content_layers={"relu1_1": 1.0})
    assert chosen.taps.count("relu1_1") == 1


def test_deepest_layer_follows_the_network_not_the_alphabet():
    chosen = replace(
        PRESETS["gatys-pytorch"], style_layers={"relu3_4": 1.0}, content_layers={"pool3": 1.0}
    )
    assert chosen.deepest_layer == "pool3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"content_weight": -1.0}, "content_weight is -1.0: expected a finite number >= 0"),
        ({"tv_weight": float("nan")}, "tv_weight is nan"),
        ({"style_layers": {"relu1_1": float("inf")}}, "the style weight of relu1_1 is inf"),
        ({"style_layers": {"relu6_1": 1.0}}, "unknown layer 'relu6_1' in style_layers"),
        ({"tv_kind": "l3"}, "unknown tv_kind 'l3': expected 'l1' or 'l2'"),
        ({"pooling": "min"}, "unknown pooling 'min': expected 'average' or 'max'"),
        ({"style_fit": "tight"}, "unknown style_fit 'tight'"),
        ({"content_layers": {}, "style_layers": {}}, "content_layers and style_layers are empty"),
    ],
)
def test_impossible_numbers_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["gatys-pytorch"], **change)


@pytest.mark.parametrize("name", [name for name in PRESETS if PRESETS[name].content_layers])
@pytest.mark.parametrize("kind", ["content", "style"])
def test_one_kind_of_loss_may_be_left_out(name, kind):
    objective = replace(PRESETS[name], **{f"{kind}_layers": {}}).objective(64, 64)
    assert objective.terms
    assert not [term for term in objective.terms if term.startswith(kind)]


@pytest.mark.parametrize(
    ("change", "term", "named"),
    [
        ({}, "style relu2_1", "style_weight is 1000"),
        ({"style_weight": 1e39}, "style relu2_1", "style_weight is 1e+39"),
        (
            {"content_layers": {"relu4_2": 1e300}},
            "content relu4_2",
            "the weight of relu4_2 in content_layers is 1e+300",
        ),
        (
            {"content_weight": 1e9, "content_layers": {"relu4_2": 1e-30}},
            "content relu4_2",
            "the weight of relu4_2 in content_layers is 1e-30",
        ),
        ({"style_layers": {"relu1_1": 0.0}}, "style relu1_1", "style_weight is 1000"),
        ({"tv_weight": 1e38}, "tv", "tv_weight is 1e+38"),
    ],
)
def test_the_weight_behind_a_term_is_the_one_furthest_from_1(change, term, named):
    assert replace(PRESETS["gatys-pytorch"], **change).weight_behind(term) == named


def test_unknown_preset_names_the_choices():
    with pytest.raises(ValueError, match="unknown preset 'vgg': expected one of paper, gatys-pyto"):
        preset("vgg")


def test_every_preset_is_a_row_of_numbers():
    assert all(isinstance(row, Preset) and row.source for row in PRESETS.values())
    assert len({(row.content_weight, row.source) for row in PRESETS.values()}) == len(PRESETS)

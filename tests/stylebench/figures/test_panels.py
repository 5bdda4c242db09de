"""The panels of each figure, against the papers' own words."""

from dataclasses import replace
from itertools import groupby

import pytest

from stylebench.figures import FIGURES
from stylebench.figures.panels import panels_of
from stylebench.transfer.settings import Settings

OWN = Settings(size=64, iterations=7, engine="reference", precision="fp32", seed=5)


def objectives(panels):
    return [panel.settings.resolved_preset().objective(48, 64) for panel in panels]


def test_layers_are_nested_sets_of_style_layers_and_four_ratios():
    panels = panels_of("layers", OWN)
    rows = [(row, list(group)) for row, group in groupby(panels, lambda panel: panel.row)]
    assert [row for row, _ in rows] == [
        "conv1_1", "+ conv2_1", "+ conv3_1", "+ conv4_1", "+ conv5_1",
    ]  # fmt: skip
    columns = [f"alpha/beta = 1e-{power}" for power in (5, 4, 3, 2)]
    for depth, (_, group) in enumerate(rows, start=1):
        assert [panel.column for panel in group] == columns
        assert {tuple(one.style) for one in objectives(group)} == {
            tuple(f"relu{layer}_1" for layer in range(1, depth + 1))
        }


def test_a_ratio_is_that_of_the_presets_weights():
    for panel, ratio in zip(panels_of("layers", OWN)[4:8], (1e-5, 1e-4, 1e-3, 1e-2), strict=True):
        (objective,) = objectives([panel])
        alpha = objective.content["relu4_2"] * 512 * (6 * 8)  # N M of a 64 x 48 px picture
        beta = objective.style["relu1_1"] * 64**4
        assert alpha / beta == pytest.approx(ratio)
        assert objective.style["relu2_1"] * 128**4 == pytest.approx(beta)


def test_the_papers_ratio_is_the_default_presets_own():
    (_, deep) = objectives(panels_of("content-layer", OWN)[1:])
    assert deep == Settings().resolved_preset().objective(48, 64)


def test_the_rest_is_the_callers():
    own = replace(OWN, preset="paper", tv_weight=2.0)
    for name in FIGURES:
        for panel in panels_of(name, own):
            if panel.settings is None:
                assert panel.column == "the content"
                continue
            settings = panel.settings.resolved_preset()
            assert (settings.pooling, settings.normalize) == ("average", True)
            assert (settings.size, settings.iterations, settings.tv_weight) == (64, 7, 2.0)
            assert (panel.settings.engine, panel.settings.precision) == ("reference", "fp32")


def test_content_layers_and_starts_are_the_papers():
    content, shallow, deep = panels_of("content-layer", OWN)
    assert content.settings is None
    assert [list(one.settings.content_layers) for one in (shallow, deep)] == [
        ["relu2_2"], ["relu4_2"],
    ]  # fmt: skip
    starts = [
        (panel.column, panel.settings.init, panel.settings.seed) for panel in panels_of("init", OWN)
    ]
    assert starts == [
        ("from the content", "content", 5), ("from the style", "style", 5),
        *((f"from noise {seed}", "noise", seed) for seed in (5, 6, 7, 8)),
    ]  # fmt: skip


def test_a_start_is_noise_unless_another_is_asked_for():
    inits = {panel.settings.init for panel in panels_of("layers", OWN)}
    other = {panel.settings.init for panel in panels_of("layers", Settings(init="content"))}
    assert (inits, other) == ({"noise"}, {"content"})


@pytest.mark.parametrize(
    ("name", "settings", "ratios", "message"),
    [
        ("layer", Settings(), None, "unknown figure 'layer': expected one of layers, content-l"),
        ("layers", Settings(style_layers="relu1_1"), None, "style_layers is {'relu1_1': 1.0}, whi"),
        ("layers", Settings(style_weight=2.0), None, "style_weight is 2.0, which the figure"),
        ("init", Settings(init="noise"), None, "init is 'noise', which the figure 'init' chooses"),
        ("init", Settings(), [1e-3, 1e-2], "ratios are 2: expected one for the figure 'init'"),
        ("layers", Settings(), [], "ratios are 0: expected one or more"),
        ("layers", Settings(), [1e-3, 0], "an entry of ratios is 0: expected a finite number abo"),
        ("layers", Settings(), [1e-3, 1e-3], "ratios name 0.001 twice"),
    ],
)
def test_what_no_figure_can_be_is_named(name, settings, ratios, message):
    with pytest.raises(ValueError, match=message):
        panels_of(name, settings, ratios)

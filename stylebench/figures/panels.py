"""The panels of each figure: what the papers vary, as settings.

Alpha / beta is ``content_weight / style_weight`` in the formula of the preset. The default preset,
the author's own code, has 1 / 1000: the 1e-3 that both papers name. Its terms are means, so a ratio
holds at every size; the formula that the papers print, the preset ``paper``, sums the content over
N M values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from stylebench.figures import FIGURES
from stylebench.model.presets import preset
from stylebench.transfer.settings import Settings
from stylebench.transfer.values import check_distinct, choice, listed, positive

_OWN = ("content_layers", "style_layers", "content_weight", "style_weight")
_START = "noise"
_STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
_CONTENT = ("relu2_2", "relu4_2")
_NOISES = 4


@dataclass(frozen=True)
class Panel:
    """A cell of a figure.

    Attributes:
        row: its label; empty where there is one row.
        column: likewise.
        settings: of its run; None: it is the content itself.
    """

    row: str
    column: str
    settings: Settings | None

    @property
    def name(self) -> str:
        """Its labels in one."""
        return ", ".join(filter(None, (self.row, self.column)))


def panels_of(
    name: str, settings: Settings, ratios: Sequence[float] | None = None
) -> tuple[Panel, ...]:
    """The panels of a figure, row by row.

    Args:
        name: of ``FIGURES``.
        settings: of every panel, but for what the figure itself makes.
        ratios: alpha / beta; of ``layers`` several, else one; None: the paper's.

    Raises:
        ValueError: there is no such figure, a setting is the figure's own to make, or the ratios
            are of another number.
    """
    choice("figure", name, tuple(FIGURES))
    ours = Settings()
    for field in (*_OWN, *(("init",) if name == "init" else ())):
        if getattr(settings, field) != getattr(ours, field):
            raise ValueError(
                f"{field} is {getattr(settings, field)!r}, which the figure {name!r} chooses "
                "itself: drop it"
            )
    if ratios is None:
        ratios = _RATIOS.get(name, (1e-3,))
    ratios = [
        positive("an entry of ratios", ratio) for ratio in listed("ratios", ratios, "numbers")
    ]
    check_distinct("ratios", ratios)
    if not ratios or (name not in _RATIOS and len(ratios) > 1):
        expected = "one or more" if name in _RATIOS else "one"
        raise ValueError(f"ratios are {len(ratios)}: expected {expected} for the figure {name!r}")
    start = _START if settings.init is None else settings.init
    return tuple(_PANELS[name](replace(settings, init=start), ratios))


def _layers(settings: Settings, ratios: Sequence[float]) -> Iterator[Panel]:
    """The five nested sets of style layers, each with every ratio."""
    for count, layer in enumerate(_STYLE, start=1):
        row = ("+ " if count > 1 else "") + _paper_name(layer)
        chosen = replace(settings, style_layers=_STYLE[:count])
        for ratio in ratios:
            yield Panel(row, f"alpha/beta = {_power(ratio)}", _weighted(chosen, ratio))


def _content_layer(settings: Settings, ratios: Sequence[float]) -> Iterator[Panel]:
    yield Panel("", "the content", None)
    for layer in _CONTENT:
        chosen = replace(settings, content_layers=[layer])
        yield Panel("", f"from {_paper_name(layer)}", _weighted(chosen, *ratios))


def _init(settings: Settings, ratios: Sequence[float]) -> Iterator[Panel]:
    settings = _weighted(settings, *ratios)
    for init in ("content", "style"):
        yield Panel("", f"from the {init}", replace(settings, init=init))
    for seed in range(settings.seed, settings.seed + _NOISES):
        yield Panel("", f"from noise {seed}", replace(settings, seed=seed))


_PANELS: Mapping[str, Callable[[Settings, Sequence[float]], Iterator[Panel]]] = {
    "layers": _layers,
    "content-layer": _content_layer,
    "init": _init,
}
#: Figures of several ratios -> the paper's.
_RATIOS: Mapping[str, Sequence[float]] = {"layers": (1e-5, 1e-4, 1e-3, 1e-2)}


def _weighted(settings: Settings, ratio: float) -> Settings:
    alpha = preset(settings.preset).content_weight
    return replace(settings, content_weight=alpha, style_weight=alpha / ratio)


def _paper_name(layer: str) -> str:
    """``relu4_2`` as the papers write it: they mean the map after its ReLU."""
    return layer.replace("relu", "conv")


def _power(ratio: float) -> str:
    """``1e-3``."""
    mantissa, exponent = f"{ratio:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"

"""One colour for one engine on every chart.

Okabe and Ito's colours, which people who are colour-blind can tell apart. Each has a contrast of at
least 3 against the page in light and in dark, so marks keep their colour when the theme changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

GREY, PURPLE, BLUE, RED, GREEN = "#7b838c", "#c26b9c", "#0f7cc0", "#d55e00", "#009e73"
# None of these is an engine's, so that no part of a bar is taken for one.
_SPARE = ("#6a66c8", "#ad8100", "#1b8f8b", "#a8577e", "#6d8f2b", "#97603a", "#64788a")

#: Engine or implementation -> colour; ours is red wherever it appears.
COLOURS: Mapping[str, str] = {
    "reference": GREY,
    "eager": GREY,
    "plain": PURPLE,
    "baddbmm": PURPLE,
    "compiled": BLUE,
    "fused": RED,
    "stylekernels": RED,
}
DASHES: Mapping[str, str] = {"bf16": "dash", "fp16": "dot", "tf32": "dashdot", "fp64": "dot"}
SYMBOLS: Mapping[str, str] = {
    "bf16": "diamond",
    "fp16": "square",
    "tf32": "triangle-up",
    "fp64": "x",
}
_IN_TURN = (
    ("solid", "circle"), ("dash", "diamond"), ("dot", "square"), ("dashdot", "triangle-up"),
    ("longdash", "x"), ("longdashdot", "circle"),
)  # fmt: skip


def line_styles(kinds: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """A dash and a symbol for each line, given its engine and precision.

    They tell the precision, as on every chart; where that leaves two lines alike, an engine's lines
    take the styles in turn.
    """
    if len(set(kinds)) == len(kinds):
        return [(DASHES.get(each, "solid"), SYMBOLS.get(each, "circle")) for _, each in kinds]
    turns: Counter[str] = Counter()
    styles = []
    for engine, _ in kinds:
        styles.append(_IN_TURN[turns[engine] % len(_IN_TURN)])
        turns[engine] += 1
    return styles


def colour(name: str) -> str:
    """Of an engine or an implementation; green where it is none that is known."""
    return COLOURS.get(name, GREEN)


def spare(index: int) -> str:
    """Colours for what is no engine, in the order of appearance."""
    return _SPARE[index % len(_SPARE)]

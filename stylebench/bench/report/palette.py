"""One color for one engine on every chart.

Okabe and Ito's colors, which people who are color-blind can tell apart. Each has a contrast of at
least 3 against the page in light and in dark, so marks keep their color when the theme changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

GREY, PURPLE, BLUE, RED, GREEN = "#7b838c", "#c26b9c", "#0f7cc0", "#d55e00", "#009e73"
#: For series that are no engine, in the order of appearance; none of them is an engine's color.
SPARE = ("#6a66c8", "#ad8100", "#1b8f8b", "#a8577e", "#6d8f2b", "#97603a", "#64788a")
#: Engine or implementation -> color; ours is red wherever it appears.
COLORS: Mapping[str, str] = {
    "reference": GREY,
    "eager": PURPLE,
    "baddbmm": GREY,
    "compiled": BLUE,
    "fused": RED,
    "stylekernels": RED,
}
_OF_PRECISION = {"bf16": ("dash", "diamond"), "fp16": ("dot", "square"),
                 "tf32": ("dashdot", "triangle-up"), "fp32-direct": ("longdash", "x"),
                 "fp64": ("dot", "x")}  # fmt: skip
_IN_TURN = (
    ("solid", "circle"), ("dash", "diamond"), ("dot", "square"), ("dashdot", "triangle-up"),
    ("longdash", "x"), ("longdashdot", "circle"),
)  # fmt: skip


def color(name: str) -> str:
    """The color of an engine or an implementation; green for one that is not known."""
    return COLORS.get(name, GREEN)


def line_styles(kinds: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """A dash and a symbol for each line, given its engine and precision.

    They tell the precision, as on every chart; where that leaves two lines alike, an engine's lines
    take the styles in turn.
    """
    if len(set(kinds)) == len(kinds):
        return [_OF_PRECISION.get(precision, _IN_TURN[0]) for _, precision in kinds]
    turns: Counter[str] = Counter()
    styles = []
    for engine, _ in kinds:
        styles.append(_IN_TURN[turns[engine] % len(_IN_TURN)])
        turns[engine] += 1
    return styles

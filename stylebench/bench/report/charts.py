"""Plotly figures without colors of their own for paper, ink and lines.

Those come from the page's style sheet when the page draws, and again when its theme changes.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

_LONG = 18  # letters of a label beside bars
_FEW_MARKS = 0.7  # decades, in which 1, 2 and 5 may come but once
_CATEGORIES = {"type": "category", "autorange": "reversed", "ticks": "", "ticklabelstandoff": 6}
_COLUMNS = {"x": "x", "y": "y", "color": "series", "hover_name": "hover"}

Axis = Mapping[str, Any]
#: Series -> plotly's properties of its trace.
Looks = Mapping[str, Mapping[str, Any]]


class Chart(NamedTuple):
    """One chart of the page.

    Attributes:
        title: above it, and its name to a screen reader.
        figure: plotly's JSON.
        height: px, reserved before it is drawn.
    """

    title: str
    figure: str
    height: int


def lines(title: str, points: pd.DataFrame, looks: Looks, x: Axis, y: Axis) -> Chart:
    """Lines over two numeric axes.

    Args:
        title: of the chart.
        points: columns ``x``, ``y``, ``series``, ``words`` (shown on hover), and ``file``, the
            record that a point comes from.
        looks: of every series.
        x: properties of plotly's axis.
        y: likewise.
    """
    return _chart(title, px.line(_escaped(points), **_COLUMNS), looks, 340, x, y)


def bars(title: str, points: pd.DataFrame, looks: Looks, x: Axis) -> Chart:
    """Horizontal bars, stacked where series share a category; the first category on top."""
    deep = points["y"].str.len().max() > _LONG
    height = 74 + (38 if deep else 30) * points["y"].nunique()
    points = _escaped(points).assign(y=lambda frame: frame["y"].map(_in_two))
    figure = px.bar(points, orientation="h", barmode="stack", **_COLUMNS)
    figure.update_layout(bargap=0.32).update_traces(cliponaxis=False)
    return _chart(title, figure, looks, height, x, {**_CATEGORIES, "showgrid": False})


def dots(title: str, points: pd.DataFrame, looks: Looks, x: Axis) -> Chart:
    """A row of dots for each category; the first category on top."""
    height = 74 + 24 * points["y"].nunique()
    figure = px.scatter(_escaped(points), **_COLUMNS).update_traces(cliponaxis=False)
    return _chart(title, figure, looks, height, x, _CATEGORIES)


def escaped(text: str) -> str:
    """``text`` for plotly, which takes tags and entities in its labels for mark-up."""
    return html.escape(text, quote=False)


def _escaped(points: pd.DataFrame) -> pd.DataFrame:
    points = points[["x", "y", "series", "words", "file"]]
    texts = points.select_dtypes(exclude="number").map(escaped)
    return points.assign(**texts, hover=texts["words"] + "<br>" + texts["file"])


def _in_two(label: str) -> str:
    """A long label in two lines, engine and precision first: on a phone it takes the bars' room."""
    words = label.split()
    if len(html.unescape(label)) <= _LONG or len(words) < 3:
        return label
    return f"{' '.join(words[:2])}<br>{' '.join(words[2:])}"


def _chart(title: str, figure: go.Figure, looks: Looks, height: int, x: Axis, y: Axis) -> Chart:
    named = {escaped(name): look for name, look in looks.items()}
    figure.update_traces(hovertemplate="%{hovertext}<extra></extra>")
    figure.for_each_trace(lambda trace: trace.update(named[trace.name]))
    figure.update_layout(
        template=go.layout.Template(),  # plotly's own would bring its colors and 6 kB
        height=height,
        margin={"l": 8, "r": 18, "t": 10, "b": 8},
        showlegend=False,  # the page makes one of buttons, beside the chart and not on it
        xaxis={"automargin": True, "zeroline": False, "tickangle": 0, "title": None, **x},
        yaxis={"automargin": True, "zeroline": False, "title": None, **y},
        hovermode="closest",
    )
    return Chart(title, figure.to_json(), height)


def log_axis(title: str, values: pd.Series) -> dict[str, Any]:
    """A logarithmic axis with marks at 1, 2 and 5, or at powers of ten where that were crowded.

    Where there would be one mark or none they are even.
    """
    low, high = values[values > 0].min(), values[values > 0].max()  # NaN where there are none
    decades = math.log10(high / low) if high > 0 else 0
    shown = {"type": "log", "title": {"text": title}, "tickformat": "~s" if high >= 1e4 else "~g"}
    if 0 < decades < _FEW_MARKS:
        return {**shown, "tickvals": _even_marks(low, high)}
    return {**shown, "dtick": "D2" if decades < 3.5 else 1}


def _even_marks(low: float, high: float) -> list[float]:
    """A few round numbers from ``low`` to ``high``, one beyond each included."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= 0.999 * rough)
    marks = [index * step for index in range(math.floor(low / step), math.ceil(high / step) + 1)]
    return [float(f"{mark:.6g}") for mark in marks if mark > 0]

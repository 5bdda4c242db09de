"""Charts as plotly.js takes them, without colors of their own for paper, ink and lines.

Those come from the page's style sheet when the page draws, and again when its theme changes.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

_LONG = 18  # letters of a label beside bars
_FEW_MARKS = 0.7  # decades, in which 1, 2 and 5 may come but once
_CATEGORIES = {"type": "category", "autorange": "reversed", "ticks": "", "ticklabelstandoff": 6}

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
    return _chart(title, points, {"type": "scatter"}, looks, 340, x, y)


def bars(title: str, points: pd.DataFrame, looks: Looks, x: Axis) -> Chart:
    """Horizontal bars, stacked where series share a category; the first category on top."""
    deep = points["y"].str.len().max() > _LONG
    height = 74 + (38 if deep else 30) * points["y"].nunique()
    trace = {"type": "bar", "orientation": "h", "cliponaxis": False}
    points = points.assign(y=points["y"].map(_in_two))
    return _chart(title, points, trace, looks, height, x, {**_CATEGORIES, "showgrid": False})


def dots(title: str, points: pd.DataFrame, looks: Looks, x: Axis) -> Chart:
    """A row of dots for each category; the first category on top."""
    height = 74 + 24 * points["y"].nunique()
    trace = {"type": "scatter", "mode": "markers", "cliponaxis": False}
    points = points.assign(y=points["y"].map(escaped))
    return _chart(title, points, trace, looks, height, x, _CATEGORIES)


def escaped(text: str) -> str:
    """``text`` for plotly, which takes tags and entities in its labels for mark-up."""
    return html.escape(text, quote=False)


def _in_two(label: str) -> str:
    """A long label in two lines, engine and precision first: on a phone it takes the bars' room."""
    words = label.split()
    if len(label) <= _LONG or len(words) < 3:
        return escaped(label)
    return f"{escaped(' '.join(words[:2]))}<br>{escaped(' '.join(words[2:]))}"


def _chart(
    title: str,
    points: pd.DataFrame,
    trace: Mapping[str, Any],
    looks: Looks,
    height: int,
    x: Axis,
    y: Axis,
) -> Chart:
    hover = points["words"].map(escaped) + "<br>" + points["file"].map(escaped)
    traces = [
        {
            **trace,
            "name": escaped(str(name)),
            "x": part["x"].tolist(),
            "y": part["y"].tolist(),
            "hovertext": part["hover"].tolist(),
            "hoverinfo": "text",
            **looks[str(name)],
        }
        for name, part in points.assign(hover=hover).groupby("series", sort=False)
    ]
    layout = {
        "height": height,
        "margin": {"l": 8, "r": 18, "t": 10, "b": 8},
        "showlegend": False,  # the page makes one of buttons, beside the chart and not on it
        "xaxis": {"automargin": True, "zeroline": False, "tickangle": 0, **x},
        "yaxis": {"automargin": True, "zeroline": False, **y},
        "hovermode": "closest",
        "barmode": "stack",
        "bargap": 0.32,
    }
    return Chart(title, json.dumps({"data": traces, "layout": layout}, allow_nan=False), height)


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

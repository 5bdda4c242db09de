"""What every chart shares: a plotly figure without colours of its own for paper, ink and lines.

Those come from the page's style sheet when the page draws, and again when its theme changes.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from stylebench.bench.report.palette import colour, line_styles, spare
from stylebench.bench.report.rows import Row

_LONG = 18  # letters of a label beside bars
_FEW_MARKS = 0.7  # decades, in which 1, 2 and 5 may come but once


@dataclass(frozen=True)
class Chart:
    """One chart of the page.

    Attributes:
        id: of its element.
        title: above it, and its name to a screen reader.
        figure: plotly's JSON.
        height: px, reserved before it is drawn.
    """

    id: str
    title: str
    figure: str
    height: int


@dataclass(frozen=True)
class Series:
    """Points of one colour: a line, or dots, or pieces of bars.

    Attributes:
        name: in the legend.
        x: numbers, or categories.
        y: likewise.
        hover: a text for each point.
        files: the record that each point comes from.
        look: plotly's properties.
    """

    name: str
    x: Sequence[Any]
    y: Sequence[Any]
    hover: Sequence[str]
    files: Sequence[str]
    look: Mapping[str, Any]


def plain(text: str) -> str:
    """``text`` for plotly, which takes tags and entities in its labels for mark-up."""
    return html.escape(text, quote=False)


def engine_lines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The look of each row's line: colour for the engine, dash and symbol for what differs."""
    styles = line_styles([(row.text("engine"), row.text("precision")) for row in rows])
    return [
        {
            "mode": "lines+markers",
            "line": {"color": colour(row.text("engine")), "dash": dash, "width": 2},
            "marker": {"color": colour(row.text("engine")), "symbol": symbol, "size": 7},
        }
        for row, (dash, symbol) in zip(rows, styles, strict=True)
    ]


def lines(
    slug: str, title: str, series: Sequence[Series], x: Mapping[str, Any], y: Mapping[str, Any]
) -> Chart:
    """Lines or dots over two numeric axes."""
    traces = [go.Scatter(y=list(each.y), **_shared(each)) for each in series]
    return _chart(slug, title, traces, 340, x, y)


def bars(
    slug: str, title: str, series: Sequence[Series], x: Mapping[str, Any], text: bool = False
) -> Chart:
    """Horizontal bars, stacked where several series share a category; the first one on top."""
    traces = [
        go.Bar(
            y=[_in_lines(label) for label in each.y],
            orientation="h",
            text=[plain(words) for words in each.hover] if text else None,
            textposition="outside" if text else "none",
            cliponaxis=False,
            **_shared(each),
        )
        for each in series
    ]
    deep = any(len(label) > _LONG for each in series for label in each.y)
    chart_height = 74 + (38 if deep else 30) * _categories(series)
    return _chart(slug, title, traces, chart_height, x, _CATEGORIES, barmode="stack", bargap=0.32)


def _in_lines(label: str) -> str:
    """A long label in two lines, engine and precision first: on a phone it takes the bars' room."""
    words = label.split()
    if len(label) <= _LONG or len(words) < 3:
        return plain(label)
    return f"{plain(' '.join(words[:2]))}<br>{plain(' '.join(words[2:]))}"


def dots(slug: str, title: str, series: Sequence[Series], x: Mapping[str, Any]) -> Chart:
    """A row of dots for each category, one colour a series; the first category on top."""
    traces = [
        go.Scatter(
            y=[plain(label) for label in each.y],
            mode="markers",
            cliponaxis=False,
            **_shared(each),
        )
        for each in series
    ]
    rows = {**_CATEGORIES, "showgrid": True}
    return _chart(slug, title, traces, 74 + 24 * _categories(series), x, rows)


def _shared(series: Series) -> dict[str, Any]:
    """What plotly is told of every series, however it is drawn."""
    return {
        "name": plain(series.name),
        "x": list(series.x),
        "hovertext": [
            f"{plain(text)}<br>{plain(file)}"
            for text, file in zip(series.hover, series.files, strict=True)
        ],
        "hoverinfo": "text",
        **series.look,
    }


_CATEGORIES = {
    "type": "category",
    "autorange": "reversed",
    "showgrid": False,
    "ticks": "",
    "ticklabelstandoff": 6,
}


def log_axis(title: str, values: Iterable[float | None]) -> dict[str, Any]:
    """A logarithmic axis with marks at 1, 2 and 5, or at powers of ten where that were crowded.

    Where there would be one mark or none they are even.
    """
    positive = [value for value in values if value and value > 0]
    decades = math.log10(max(positive) / min(positive)) if positive else 0
    axis: dict[str, Any] = {
        "type": "log",
        "title": {"text": title},
        "tickformat": "~s" if positive and max(positive) >= 1e4 else "~g",
    }
    if 0 < decades < _FEW_MARKS:
        return {**axis, "tickvals": _even_marks(min(positive), max(positive))}
    return {**axis, "dtick": "D2" if decades < 3.5 else 1}


def _even_marks(low: float, high: float) -> list[float]:
    """A few round numbers from ``low`` to ``high``, one beyond each included."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(each for each in (1, 2, 5, 10) if each * power >= 0.999 * rough)
    first = math.floor(low / step)
    marks = [index * step for index in range(first, math.ceil(high / step) + 1)]
    return [float(f"{mark:.6g}") for mark in marks if mark > 0]


def _categories(series: Sequence[Series]) -> int:
    return len({label for each in series for label in each.y})


def spare_look(index: int, **more: Any) -> dict[str, Any]:
    """The look of a series that is no engine."""
    return {"marker": {"color": spare(index), **more}}


def _chart(
    slug: str,
    title: str,
    traces: Sequence[Any],
    height: int,
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    **layout: Any,
) -> Chart:
    drawn = go.Figure(traces)
    drawn.update_layout(
        template=go.layout.Template(),  # plotly's own would bring its colours and 6 kB
        height=height,
        margin={"l": 8, "r": 18, "t": 10, "b": 8},
        showlegend=False,  # the page makes one of buttons, beside the chart and not on it
        xaxis={"automargin": True, "zeroline": False, "tickangle": 0, **x},
        yaxis={"automargin": True, "zeroline": False, **y},
        hovermode="closest",
        **layout,
    )
    return Chart(slug, title, drawn.to_json(), height)

"""The presets as a table for the terminal and for the README."""

from __future__ import annotations

from stylebench.model.objective import LayerWeights
from stylebench.model.presets import PRESETS, Preset

_HEADINGS = (
    "preset", "content loss", "style loss", "tv", "pooling", "start", "size", "iterations"
)  # fmt: skip


def presets_table(markdown: bool = False) -> str:
    """Every preset a row: what c_l, k_l and tv come to, and how a run starts."""
    rows = [_HEADINGS, *(_row(name, preset) for name, preset in PRESETS.items())]
    if markdown:
        rows.insert(1, ("---",) * len(_HEADINGS))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    sources = [f"{name}: {preset.source}" for name, preset in PRESETS.items()]
    return "\n".join([*lines, "", *sources])


def _row(name: str, preset: Preset) -> tuple[str, ...]:
    content = preset.content_weight * preset.content_factor
    style = preset.style_weight * preset.style_factor
    if preset.average_style_layers:
        style /= len(preset.style_layers)
    per = " / (N M)" if preset.content_exponent else ""
    return (
        name,
        f"{content:g}{per} at {_layers(preset.content_layers)}" if preset.content_layers else "-",
        f"{style:g} / N^{preset.style_exponent} at {_layers(preset.style_layers)}",
        f"{preset.tv_weight:g} {preset.tv_kind.upper()}" if preset.tv_weight else "-",
        preset.pooling + (", normalized" if preset.normalize else ""),
        preset.init,
        str(preset.size),
        str(preset.iterations),
    )


def _layers(weights: LayerWeights) -> str:
    kinds = {name[:4] for name in weights}
    if len(kinds) == 1 and len(weights) > 1:
        return f"{kinds.pop()} {', '.join(name[4:] for name in weights)}"
    return ", ".join(weights)

"""``stylebench stylize --dry-run`` and ``doctor --size``: the plan of a run as a table."""

from __future__ import annotations

import torch

from stylebench.image.load import ImageSource, Picture
from stylebench.processes.ranks import ALONE, Ranks
from stylebench.transfer.inputs import Inputs, Styles, load_pictures
from stylebench.transfer.memory import readable
from stylebench.transfer.plan import Plan, PlannedPhase
from stylebench.transfer.prepare import planned
from stylebench.transfer.settings import Settings
from stylebench.transfer.share import share_of

_HEADINGS = ("size", "iterations", "engine", "precision", "history", "tile", "peak")
_DTYPES = {torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"}


def plan_table(plan: Plan) -> str:
    """A row a phase, then the peak beside what is free."""
    rows = [_HEADINGS, *(_row(phase, plan.held) for phase in plan.phases)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    parts = {"held before": plan.held, **plan.largest.footprint.parts}
    told = ", ".join(f"{name} {readable(count)}" for name, count in parts.items() if count)
    if plan.processes > 1:
        lines.append(f"of each of {plan.processes} processes, with a band of the picture's rows:")
    return "\n".join([*lines, f"peak {readable(plan.peak)}: {told}", _verdict(plan)])


def dry_table(
    content: ImageSource, styles: Styles, settings: Settings, ranks: Ranks = ALONE
) -> str:
    """The table of a run that is not made.

    Args:
        content: an image file.
        styles: likewise.
        settings: of the run.
        ranks: the processes that would make it.

    Raises:
        TooLarge: it cannot fit.
    """
    with ranks.agreeing():
        inputs, share = load_pictures(content, styles, settings), share_of(settings, ranks)
    share = share.of_all(ranks)
    with ranks.agreeing():
        plan = planned(inputs, settings, share=share)
        plan.check()
    return plan_table(plan)


def plan_of_size(size: int) -> Plan:
    """The plan of a run of the default settings, of squares of ``size`` px.

    Raises:
        ValueError: ``size`` is too small.
    """
    square = torch.zeros(1).expand(3, size, size)  # without the memory of one
    inputs = Inputs(Picture("the content", square), [Picture("the style", square)], None)
    return planned(inputs, Settings(size=size))


def _row(phase: PlannedPhase, held: int) -> tuple[str, ...]:
    choices, (height, width) = phase.choices, phase.sizes.content
    pairs = f"{choices.history} in {_DTYPES[choices.history_dtype]}"
    return (
        f"{width} x {height} px",
        str(phase.phase.iterations),
        choices.engine,
        choices.precision.name,
        pairs if choices.history else "none",
        "whole" if choices.tiling is None else str(choices.tiling.name),
        readable(held + phase.footprint.total),
    )


def _verdict(plan: Plan) -> str:
    if plan.memory is None:
        return f"the memory of {plan.device} cannot be told"
    if plan.fits:
        free, whole = readable(plan.memory.free), readable(plan.memory.whole)
        return (
            f"it fits: {readable(plan.needed)} more, and {plan.device} has {free} free of {whole}"
        )
    return f"it does not fit: {plan.line()}"

"""The table of a modelled iteration as text."""

from __future__ import annotations

from collections.abc import Iterator

from stylebench.bench.model.costs import Modelled
from stylekernels.model.gpus import DataSheet

_WIDTHS = (22, 9, 11, 10, 12, 10, 10, 11)


def lines(iteration: Modelled, title: str, sheet: DataSheet) -> Iterator[str]:
    """Launches, bytes, operations and microseconds by part, under ``title``; then the whole."""
    yield title
    yield f"MODELLED, NOT MEASURED: by the data sheet of {sheet.gpu.name}"
    yield ""
    yield line("part", "launches", "read MB", "of it L2", "written MB", "GFLOP", "us", "us beside")
    for row in [*iteration.rows, iteration.total]:
        yield line(
            row.part, str(row.launches), _mega(row.read), _mega(row.cached), _mega(row.written),
            f"{row.flops / 1e9:.1f}", micro(row.seconds), micro(row.beside),
        )  # fmt: skip
    yield ""
    seconds, cached = iteration.seconds, iteration.seconds_cached
    yield f"iteration   {micro(seconds)} us, {1 / seconds:.0f} it/s, if all bytes go to the memory"
    yield f"            {micro(cached)} us, {1 / cached:.0f} it/s, if what the L2 may have is free"
    hidden = iteration.in_turn - seconds
    yield f"in turn     {micro(iteration.in_turn)} us: {micro(hidden)} us hidden beside others"
    share = iteration.roof / seconds
    yield f"roof        {micro(iteration.roof)} us, the convolutions alone: {share:.0%} of it"
    if assumed := sorted({kernel.name for kernel in iteration.kernels if not kernel.described}):
        yield f"no description, so all operands are read and written: {', '.join(assumed)}"
    if iteration.host_waits:
        yield f"the host waits in: {', '.join(iteration.host_waits)}"


def line(first: str, *rest: str) -> str:
    """One row of a table."""
    padded = [cell.rjust(width) for cell, width in zip(rest, _WIDTHS[1:], strict=False)]
    return first.ljust(_WIDTHS[0]) + "".join(padded)


def micro(seconds: float) -> str:
    """Microseconds."""
    return f"{1e6 * seconds:.1f}"


def _mega(count: int) -> str:
    return f"{count / 1e6:.1f}"

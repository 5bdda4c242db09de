"""The loop: step, record, tell; nothing is lost when it ends early."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from torch import Tensor

from stylebench.engines import Engine
from stylebench.optim.base import DeviceOptimizer, Optimizer
from stylebench.processes.ranks import ALONE, Ranks
from stylebench.transfer.stepper import LOG_ROWS, make_stepper
from stylebench.transfer.trace import Trace

_PATIENCE = 3  # evaluations in a row that are not finite, where the optimizer rolls back
_REPORT_SECONDS = 0.1  # between two looks at a GPU


def optimize(
    engine: Engine,
    image: Tensor,
    optimizer: Optimizer | DeviceOptimizer,
    until: int,
    trace: Trace,
    on_row: Callable[[dict[str, float]], object] | None = None,
    sync_every: int = 0,
    ranks: Ranks = ALONE,
) -> None:
    """Move ``image`` until a number of function evaluations, or until the optimizer converges.

    An optimizer that rolls back is given a few evaluations to recover before the run ends.

    Args:
        engine: gives loss and gradient.
        image: preprocessed [1, 3, H, W], moved in place by ``optimizer``.
        optimizer: bound to ``image``.
        until: evaluations in ``trace`` when it ends, as the published implementations count.
        trace: filled as the run goes, so that an interrupt loses nothing.
        on_row: called with the trace's row of every evaluation, after each; where a GPU goes on by
            itself, some ten times a second with the rows since the last time.
        sync_every: be sure to stop and tell at multiples of this; 0: no matter where.
        ranks: who iterate together; they stop at every iteration.

    Raises:
        NonFinite: naming the iteration and the term, which names its layer; or every step was
            rolled back (``Standstill``).
    """
    stepper = make_stepper(engine, optimizer, image, capture=ranks.alone)
    patience = _PATIENCE if isinstance(optimizer, DeviceOptimizer) else 0
    batch = 1
    try:
        while trace.done < until and not stepper.converged:
            count = min(batch, until - trace.done)
            if sync_every:
                count = min(count, sync_every - trace.done % sync_every)
            began, first = trace.seconds, trace.done
            with ranks.apart():
                stepper.advance(count)
                steps = stepper.read()
            fault = trace.record(steps, began, trace.seconds, patience)
            seconds = trace.seconds - began
            if on_row is not None:
                for row in trace.rows[first:]:
                    on_row(row)
            if fault is not None:
                raise fault  # noqa: TRY301  # after which there is nothing more to read
            batch = 1 if stepper.syncs_every_step else _next_batch(count, seconds)
    except BaseException:
        with suppress(Exception):  # what ended the run may have broken the device as well
            now = trace.seconds
            trace.record(stepper.read(), now, now, patience)
        raise
    else:
        if fault := trace.standstill():
            raise fault
    finally:
        trace.best.copy_(stepper.best_image)


def _next_batch(count: int, seconds: float) -> int:
    """As many iterations as fill the time between two reports, growing by doubling at most."""
    return max(1, min(2 * count, LOG_ROWS, int(count * _REPORT_SECONDS / seconds)))

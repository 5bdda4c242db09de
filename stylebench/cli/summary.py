"""The summary of a run."""

from __future__ import annotations

from stylebench.transfer.result import Result
from stylebench.watch.step import rate_text


def summary(result: Result) -> str:
    """Loss, iterations, seconds and rate of a run, in one line."""
    done, seconds = result.parameters["iterations_done"], result.parameters["seconds"]
    return (
        f"loss {result.history[0]['loss']:.4g} -> {result.parameters['loss']:.4g} in {done} "
        f"iterations, {seconds:.1f} s, {rate_text(done / seconds)}"
    )

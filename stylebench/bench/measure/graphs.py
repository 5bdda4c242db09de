"""Capture of work as a CUDA graph, which leaves the cost of its launches out of its time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from stylebench.bench.measure.memory import out_of_memory

_WARM = 3  # runs before the capture: kernels are compiled and libraries set up in them


def captured(work: Callable[[], object], device: torch.device) -> torch.cuda.CUDAGraph | None:
    """``work`` on ``device``, a CUDA one, as a graph; None where it cannot be captured.

    It is warmed up on a side stream: state that libraries set up on the default one could not be
    captured afterwards.

    Raises:
        torch.OutOfMemoryError: there is no room for it.
    """
    with torch.cuda.device(device):
        try:
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM):
                    work()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                work()
        except RuntimeError as error:  # something in it waits for the device
            if out_of_memory(error):
                raise
            torch.cuda.synchronize()
            return None
    return graph

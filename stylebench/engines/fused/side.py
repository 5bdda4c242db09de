"""A second stream beside the current one, for work that the next convolution need not wait for.

On CUDA what is launched in ``fork`` may run beside what follows it; in a captured graph both become
branches. Elsewhere nothing changes.

No tensor needs ``record_stream``. A stream's memory, once freed, is reused on that stream alone. A
fork lets the side stream wait for all that the current one was given, a join the other way round.
So it is enough that what the side stream reads lives until the next join, and that nobody writes to
it before; and that what it has made is not touched before a join.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch


class SideStream:
    """A stream that runs beside the current one of a device, between forks and joins.

    Args:
        device: whose stream it is; without streams unless it is CUDA's.
        cuda: ``torch.cuda``, or what stands for it where there is no GPU.
    """

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._device, self._cuda = device, cuda

    @contextmanager
    def fork(self) -> Iterator[None]:
        """Launch within on the side stream, behind all that the current one was given so far."""
        if self._device.type != "cuda":
            yield
            return
        self._stream.wait_stream(self._cuda.current_stream(self._device))
        with self._cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """Let the current stream wait for all that was forked."""
        if self._device.type == "cuda":
            self._cuda.current_stream(self._device).wait_stream(self._stream)

    @cached_property
    def _stream(self) -> Any:
        return self._cuda.Stream(self._device)

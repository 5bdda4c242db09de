"""A kernel launch as data, so that it can be run, or compiled for a GPU that is not there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Launch:
    """One kernel, its grid and its operands.

    `arguments` are tensors and numbers by the kernel's names for them; `constants` are compiled in.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    num_warps: int = 4
    num_stages: int = 3

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self.kernel.fn.__name__

    def run(self) -> None:
        """Enqueue the kernel on the current stream of its operands' device.

        Raises:
            TypeError: no operand is a tensor, so that there is no device to run on.
        """
        if _diverted is not None:
            _diverted(self)
            return
        tensors = [value for value in self.arguments.values() if isinstance(value, Tensor)]
        if not tensors:
            raise TypeError("a kernel without a tensor has no device to run on")
        with torch.cuda.device_of(tensors[0]):  # Triton takes the current
            self.kernel[self.grid](
                **self.arguments,
                **self.constants,
                num_warps=self.num_warps,
                num_stages=self.num_stages,
                enable_fp_fusion=True,
            )


_diverted: Callable[[Launch], None] | None = None


@contextmanager
def diverted(to: Callable[[Launch], None]) -> Iterator[None]:
    """Hand launches within to a function; none of them runs."""
    global _diverted
    before, _diverted = _diverted, to
    try:
        yield
    finally:
        _diverted = before


def run_all(launches: list[Launch]) -> None:
    """Enqueue the launches in order."""
    for launch in launches:
        launch.run()

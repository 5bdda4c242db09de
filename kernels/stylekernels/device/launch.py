"""A kernel launch as data, so that it can be run, or compiled for a GPU that is not there."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Launch:
    """One kernel, its grid and everything it is given.

    `arguments` are tensors, numbers and tuples of them; `constants` are compiled in.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    num_warps: int = 4
    num_stages: int = 3

    def run(self) -> None:
        """Enqueue the kernel on the current stream of its operands' device."""
        with torch.cuda.device_of(_operand(self.arguments.values())):  # Triton takes the current
            self.kernel[self.grid](
                **self.arguments,
                **self.constants,
                num_warps=self.num_warps,
                num_stages=self.num_stages,
                enable_fp_fusion=True,
            )


def _operand(arguments: Iterable[Any]) -> Tensor:
    """The first tensor among arguments and tuples of them; all are on one device."""
    for argument in arguments:
        for each in argument if isinstance(argument, tuple) else (argument,):
            if isinstance(each, Tensor):
                return each
    raise TypeError("a kernel without a tensor has no device to run on")


def run_all(launches: list[Launch]) -> None:
    """Enqueue the launches in order."""
    for launch in launches:
        launch.run()

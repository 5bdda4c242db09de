"""A kernel launch as data, so that it can be run, or compiled for a GPU that is not there."""

from dataclasses import dataclass
from typing import Any


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
        """Enqueue the kernel on the current stream."""
        self.kernel[self.grid](
            **self.arguments,
            **self.constants,
            num_warps=self.num_warps,
            num_stages=self.num_stages,
            enable_fp_fusion=True,
        )


def run_all(launches: list[Launch]) -> None:
    """Enqueue the launches in order."""
    for launch in launches:
        launch.run()

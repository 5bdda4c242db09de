"""The contract of an optimizer: one function evaluation per step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor


class Optimizer(Protocol):
    """Moves an image in place; the host waits for every step."""

    def step(self, gradient: Tensor, loss: Tensor, /) -> bool:
        """Take one step.

        Args:
            gradient: at the current image, shaped like it, finite.
            loss: at the current image, a finite scalar.

        Returns:
            True when the optimizer has converged and further steps are pointless.
        """


@runtime_checkable
class DeviceOptimizer(Protocol):
    """Moves an image in place without waiting for its device.

    After a loss or gradient that is not finite, ``step`` rolls back to the best image and takes
    shorter steps.
    """

    def step(self, grad: Tensor, loss: Tensor, /) -> None:
        """Take one step, or roll back."""

    def reset_best(self) -> None:
        """Forget the lowest loss, for gradients of a nearly equal function without noise."""

    @property
    def best_image(self) -> Tensor:
        """The image of the lowest finite loss; the first image before there is one."""

    @property
    def rollbacks(self) -> Tensor:
        """The number of steps rolled back, [] on the device."""


def restore(
    own: Mapping[str, Tensor],
    saved: Mapping[str, Tensor],
    check: Callable[[Mapping[str, Tensor]], object],
) -> None:
    """Copy a saved state into an optimizer's own tensors, in place.

    Args:
        own: the optimizer's, by name.
        saved: of the same names, shapes and dtypes.
        check: raises ValueError where the values cannot be the optimizer's.

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape, dtype or range; nothing is
            copied then.
    """
    if unknown := sorted(saved.keys() - own.keys()):
        raise ValueError(f"the saved state has {str(unknown)[:80]}, expected {sorted(own)}")
    for name, tensor in own.items():
        if name not in saved:
            raise ValueError(f"the saved state has no {name!r}; it has {sorted(saved)}")
        copy = saved[name]
        if (copy.shape, copy.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(
                f"saved {name!r} is {tuple(copy.shape)} {copy.dtype}, expected "
                f"{tuple(tensor.shape)} {tensor.dtype}: resume with the same image size, dtypes "
                "and history"
            )
    check(saved)
    for name, tensor in own.items():
        tensor.copy_(saved[name])


def check_values(name: str, holds: object, expected: str) -> None:
    """Raise ValueError unless the values of a saved tensor hold what is expected of them."""
    if not holds:
        raise ValueError(f"saved {name!r} cannot be an optimizer's: expected {expected}")

"""The contract of an optimizer: one function evaluation a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor


class Optimizer(Protocol):
    """Moves an image in place, with the host looking on."""

    def step(self, gradient: Tensor, loss: Tensor, /) -> bool:
        """Take one step from where ``gradient`` and ``loss`` were evaluated, both finite.

        Args:
            gradient: shaped like the image.
            loss: scalar.

        Returns:
            True when the optimizer has converged and further steps are pointless.
        """


@runtime_checkable
class DeviceOptimizer(Protocol):
    """Moves an image in place without ever waiting for its device.

    A loss or gradient that is not finite is rolled back by ``step``, with shorter steps after it.
    """

    def step(self, grad: Tensor, loss: Tensor, /) -> None:
        """Take one step, or roll back."""

    def reset_best(self) -> None:
        """Go on with gradients of another function that is nearly the same, without noise."""

    @property
    def best_image(self) -> Tensor:
        """The image of the lowest finite loss; the first image before there is one."""

    @property
    def rollbacks(self) -> Tensor:
        """How many steps were rolled back, [] on the device."""


def restore(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copy a saved state into an optimizer's own tensors, in place.

    Raises:
        ValueError: a tensor is missing, or of another shape or dtype; nothing is copied then.
    """
    for name, tensor in own.items():
        if name not in saved:
            raise ValueError(f"the saved state has no {name!r}; it has {sorted(saved)}")
        given = saved[name]
        if (given.shape, given.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(
                f"saved {name!r} is {tuple(given.shape)} {given.dtype}, expected "
                f"{tuple(tensor.shape)} {tensor.dtype}: resume with the same image size, dtypes "
                "and history"
            )
    for name, tensor in own.items():
        tensor.copy_(saved[name])

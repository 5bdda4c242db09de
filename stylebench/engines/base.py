"""What an engine takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """What the image is pulled towards, in the units of the network that captured it.

    Attributes:
        content: layer -> the content image's features P [1, N, H, W].
        style: layer -> the blended Gram matrix A [1, N, N] of the style images.
    """

    content: Mapping[str, Tensor]
    style: Mapping[str, Tensor]


@dataclass(frozen=True)
class LossTerms:
    """The loss, term by term, still on the device.

    Attributes:
        names: one name a term, ``content relu4_2`` and so on.
        values: [len(names)], on the device, at least fp32.
    """

    names: tuple[str, ...]
    values: Tensor

    @property
    def total(self) -> Tensor:
        """The loss itself, a scalar on the device."""
        return self.values.sum()


class Engine(Protocol):
    """Bound to a network, an objective and targets.

    Attributes:
        name: as the user names it.
        precisions: keys of ``PRECISIONS`` that it computes in, its choice without a wish first.
        targets: captured by its own network at its own precision.
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    targets: Targets

    def loss_and_grad(self, image: Tensor) -> tuple[LossTerms, Tensor]:
        """Loss terms and the gradient [1, 3, H, W] with respect to the preprocessed ``image``."""

"""The contract of an engine: targets in, loss terms and gradient out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """The features and Gram matrices that the image is pulled towards.

    They are in the units of the network that captured them.

    Attributes:
        content: layer -> the content image's features P [1, N, H, W].
        style: layer -> Gram matrix A [1, N, N], the weighted mean of the style images'; with
            regions one each [R, N, N].
        guidance: layer -> T [R, 1, H, W], where the regions are (``stylebench.model.regions``);
            empty without masks.
    """

    content: Mapping[str, Tensor]
    style: Mapping[str, Tensor]
    guidance: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class LossTerms:
    """The loss, term by term, still on the device.

    Attributes:
        names: one name per term: ``content relu4_2``, ``style relu1_1``, ``tv``.
        values: [len(names)], on the device, at least fp32.
        summed: their sum, a scalar on the device, where the engine has it already.
    """

    names: tuple[str, ...]
    values: Tensor
    summed: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """The sum of the terms, a scalar on the device."""
        return self.values.sum() if self.summed is None else self.summed


class Engine(Protocol):
    """Computes loss and gradient for one network, objective and set of targets.

    Attributes:
        name: the engine's key in ``ENGINES``.
        precisions: keys of ``PRECISIONS`` that it computes in, its default first.
        targets: captured by its own network at its own precision.
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    targets: Targets

    def loss_and_grad(self, image: Tensor) -> tuple[LossTerms, Tensor]:
        """Loss terms and the gradient [1, 3, H, W] with respect to the preprocessed ``image``."""

    def retarget(self, content: Tensor) -> None:
        """Capture the features P of another content image [1, 3, H, W] of the same size.

        The style's targets stay, and so does the scale of the network's channels, where the
        precision or the preset has chosen it by the content image.
        """

"""The settings of a run, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import torch

from stylebench.image.load import ImageSource
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import Preset, preset
from stylebench.model.vgg import Pooling, Weights
from stylebench.transfer.fields import CHECKS, CONTENT_SIZE, Layers, Scales, source_name
from stylebench.transfer.init import INITS, is_named
from stylebench.transfer.masks import MaskPairs
from stylebench.transfer.values import flag

__all__ = ["HISTORY", "INITS", "Layers", "Scales", "Settings"]

_OF_LBFGS = {"history": None, "history_dtype": None, "tolerance_grad": -1, "tolerance_change": -1}
HISTORY = 100  # pairs of L-BFGS: torch's default, and the published implementations'


@dataclass(frozen=True)
class Settings:
    """The choices of one run; None means "as the preset says".

    Attributes:
        preset: a variant of the algorithm, a name of ``stylebench.PRESETS``.
        size: longest side of the result in pixels; ``content`` is the content's own.
        iterations: function evaluations.
        style_weights: one blend weight a style image; equal by default. They are normalized.
        style_scale: size of the style images relative to what the preset says. An image that
            keeps its aspect gets at most four times the content's area, times the scale's square.
        color: ``style``: the style's; ``content-luminance``: the content's, only luminance is
            transferred; ``match``: the style images are given the mean and the covariance of the
            content's colors first, by symmetric roots, or ``match-cholesky``, by Cholesky's.
        content_layers: layer names, or layer -> weight; ``conv4_2`` is before ReLU,
            ``relu4_2`` after.
        style_layers: likewise.
        content_weight: factor of the content loss, in the preset's formula.
        style_weight: factor of the style loss, in the preset's formula.
        tv_weight: factor of the total variation.
        pooling: ``average`` or ``max``.
        normalize: rescale the network to mean activation 1 on the given images, as the paper did.
        seamless: opposite borders of the picture meet, so that it tiles without a seam; its sides
            are multiples of 16 px then, of 2 to the power of the poolings above all losses.
        weights: ``auto``, ``original``, ``gatys``, ``imagenet``, ``random``, ``random:SEED`` or a
            file; see ``load_weights``.
        engine: ``reference``, ``eager`` (plain PyTorch at any precision; once ``plain``),
            ``compiled``, ``fused``, or ``auto``, the fastest that is right.
        precision: of features and weights: ``fp32``, ``fp32-direct`` (no Winograd convolutions on a
            CPU), ``tf32`` (CUDA alone), ``bf16``, ``fp16``, ``fp64``, or ``auto``: fp16 on GPUs
            with tensor cores, bf16 on CPUs with AMX, else fp32. Losses and the image are at
            least fp32.
        polish: iterations at the end that are in fp32, of those there are; None: half of them
            in bf16, three tenths after smaller scales, and none in the other precisions.
        scales: sizes to begin with, smaller than ``size`` and growing, each with ``iterations`` of
            its own; or size -> iterations; ``auto`` takes some of them at smaller sizes where
            ``size`` is large enough (``stylebench.transfer.scales``); ``none`` or None: one size,
            as the paper.
        optimizer: ``lbfgs``, with a safe start, a gain for every frequency, and without waiting for
            the device; ``torch-lbfgs``,
            ``torch.optim.LBFGS`` as the published implementations use it; ``adam``; or ``auto``:
            ``torch-lbfgs`` for the reference engine and for tolerances, else ``lbfgs``.
        history: pairs that L-BFGS keeps, each 24 bytes a pixel; None: 100, and as many as
            2.5 GB hold, but at least 20, for images above a megapixel.
        history_dtype: ``fp32``, or ``bf16`` for half of that: the images that fit become larger,
            runs on a CPU slower; None keeps the image's own.
        learning_rate: 1 for L-BFGS; 0.02 for Adam, in units of the [0, 1] range of the image.
        tolerance_grad: L-BFGS stops at a largest gradient component below this; negative: never.
        tolerance_change: L-BFGS stops at a change of the image or the loss below this.
        init: ``content``, ``noise`` (white, as the paper), ``style``, ``gray``, ``mean`` (the style
            images' mean color), ``content+noise:SHARE`` with the noise's share of the mixture, 0 to
            1, or a picture: all that the content may be.
        masks: pairs of gray pictures, a mask of the content and one of a style image: the white of
            the one is painted in the manner of the other's. ``whole`` stands for all of a style
            image; None or ``none`` for a part that keeps the content. With several style images the
            pairs are of them in order. What is left of the content takes what is left of the style.
            ``stylebench.model.regions``.
        seed: of the noise.
        tile: ``none``: feature maps are computed whole; a number: in square tiles of so many px a
            side, which need less memory and give the whole picture's loss and gradient;
            ``rows:PX``: in tiles of so many rows over the whole width, which cost less time; or
            ``auto``: whole where that fits in memory, else rows. ``stylebench.model.tiles``.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; None takes the best there is.
        distributed: the processes of ``torch.distributed``'s group compute the picture together, a
            band of its rows each.
        normalise: another spelling of ``normalize``.

    numpy's scalars are taken as Python's numbers.

    Raises:
        ValueError: a value of another type or range, or two that contradict each other; the message
            names the field, the value and the choices.
    """

    preset: str = "gatys-pytorch"
    size: int | str | None = None
    iterations: int | None = None
    style_weights: Sequence[float] | None = None
    style_scale: float = 1.0
    color: str = "style"
    content_layers: Layers | None = None
    style_layers: Layers | None = None
    content_weight: float | None = None
    style_weight: float | None = None
    tv_weight: float | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    seamless: bool = False
    weights: str | Path | Weights = "auto"
    engine: str = "auto"
    precision: str = "auto"
    polish: int | None = None
    scales: Scales | None = "auto"
    optimizer: str = "auto"
    history: int | None = None
    history_dtype: str | None = None
    learning_rate: float | None = None
    tolerance_grad: float = -1.0
    tolerance_change: float = -1.0
    init: ImageSource | None = None
    masks: MaskPairs | None = None
    seed: int = 0
    tile: int | str = "auto"
    device: str | torch.device | None = None
    distributed: bool = False
    normalise: InitVar[bool | None] = None

    def __post_init__(self, normalise: bool | None) -> None:
        self._accept_former_names(normalise)
        for name, checked in CHECKS.items():
            value = getattr(self, name)
            if value is not None or name in _NEVER_NONE:
                object.__setattr__(self, name, checked(name, value))
        self._check_contradictions()
        # These raise where the preset, an override of it, or a scale is wrong.
        self.resolved_preset()
        if self.size != CONTENT_SIZE:
            self.schedule()

    def resolved_preset(self) -> Preset:
        """The preset with this run's numbers in place of its own."""
        names = {field.name for field in fields(Preset)}
        overrides = {
            name: value for name, value in vars(self).items() if name in names and value is not None
        }
        if self.starts_from_file:
            overrides["init"] = source_name(self.init)
        if self.size == CONTENT_SIZE:
            del overrides["size"]
        return replace(preset(self.preset), **overrides)

    def sized(self, content: tuple[int, int]) -> Settings:
        """The settings with a number for the size ``content``, by the (height, width) of that."""
        return replace(self, size=max(content)) if self.size == CONTENT_SIZE else self

    def schedule(self) -> dict[int, int]:
        """Size -> iterations of every scale, coarse to fine, the one asked for last.

        ``auto`` is taken for ``none``, since it depends on the pictures.
        """
        final = self.resolved_preset()
        scales = () if self.scales is None or isinstance(self.scales, str) else self.scales
        if not isinstance(scales, Mapping):
            scales = dict.fromkeys(scales, final.iterations)
        sizes = [*scales, final.size]
        if any(a >= b for a, b in pairwise(sizes)):
            raise ValueError(
                f"scales are {', '.join(map(str, scales))} px, then {final.size} px: expected each "
                "smaller than the next"
            )
        return {**scales, final.size: final.iterations}

    def normalized_style_weights(self, styles: int) -> list[float]:
        """Weights of the style images, adding up to 1."""
        weights = [1.0] * styles if self.style_weights is None else list(self.style_weights)
        if len(weights) != styles:
            raise ValueError(
                f"{len(weights)} style_weights for {styles} style image{'s' * (styles > 1)}"
            )
        return [weight / sum(weights) for weight in weights]

    @property
    def starts_from_file(self) -> bool:
        """Whether ``init`` is a picture, of a file or not."""
        return self.init is not None and not is_named(self.init)

    def _accept_former_names(self, normalise: bool | None) -> None:
        if normalise is not None:
            value = flag("normalise", normalise)
            if self.normalize is not None and flag("normalize", self.normalize) != value:
                raise ValueError(
                    f"normalize is {self.normalize} and normalise, another spelling of it, is "
                    f"{value}: expected one of the two"
                )
            object.__setattr__(self, "normalize", value)
        if isinstance(self.engine, str) and self.engine == "plain":
            object.__setattr__(self, "engine", "eager")

    def _check_contradictions(self) -> None:
        """Refuse an option that the choice of another leaves without effect."""
        unused = [name for name in _OF_LBFGS if getattr(self, name) != _OF_LBFGS[name]]
        if self.optimizer == "adam" and unused:
            raise ValueError(
                f"{unused[0]} is {getattr(self, unused[0])!r}, which optimizer 'adam' does not "
                "have: drop it, or choose lbfgs or torch-lbfgs"
            )
        precision = PRECISIONS.get(self.precision)  # None for auto
        if self.polish and precision and precision.dtype == precision.wide:
            raise ValueError(
                f"polish is {self.polish}, and precision {precision.name!r} is polished by nothing "
                "finer: drop it, or choose precision bf16, fp16 or auto"
            )
        if self.distributed and (self.masks or self.seamless):
            other = "masks are given" if self.masks else "seamless is True"
            raise ValueError(
                f"distributed is True, and {other}: several processes have neither regions "
                "nor borders that meet; drop one of the two"
            )
        if self.masks and self.seamless:
            raise ValueError(
                "seamless is True, and masks are given: a region ends at a border, which a "
                "seamless picture does not have; drop one of the two"
            )


_NEVER_NONE = {field.name for field in fields(Settings) if field.default is not None} - {"scales"}

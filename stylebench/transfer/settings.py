"""The settings of a run, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import torch

from stylebench.engines import ENGINES
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import Preset, layer_weights, preset
from stylebench.model.vgg import Pooling, Weights

OPTIMIZERS = ("auto", "lbfgs", "torch-lbfgs", "adam")
HISTORY_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
HISTORY = 100  # pairs of L-BFGS: torch's default, and the published implementations'

INITS = ("content", "noise", "style")

Layers = str | Iterable[str] | Mapping[str, float]
Scales = str | Sequence[int] | Mapping[int, int]


@dataclass(frozen=True)
class Settings:
    """The choices of one run; None means "as the preset says".

    Attributes:
        preset: a variant of the algorithm, a name of ``stylebench.PRESETS``.
        size: longest side of the result in pixels.
        iterations: function evaluations.
        style_weights: one blend weight a style image; equal by default. They are normalized.
        style_scale: size of the style images relative to what the preset says.
        content_layers: layer names, or layer -> weight; ``conv4_2`` is before ReLU,
            ``relu4_2`` after.
        style_layers: likewise.
        content_weight: factor of the content loss, in the preset's formula.
        style_weight: factor of the style loss, in the preset's formula.
        tv_weight: factor of the total variation.
        pooling: ``average`` or ``max``.
        normalize: rescale the network to mean activation 1 on the given images, as the paper did.
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
            its own; or size -> iterations; ``auto`` takes half of them at smaller sizes where
            ``size`` is large enough (``stylebench.transfer.scales``); ``none`` or None: one size,
            as the paper.
        optimizer: ``lbfgs``, with a safe start and without waiting for the device; ``torch-lbfgs``,
            ``torch.optim.LBFGS`` as the published implementations use it; ``adam``; or ``auto``:
            ``torch-lbfgs`` for the reference engine and for tolerances, else ``lbfgs``.
        history: pairs that L-BFGS keeps, each 24 bytes a pixel; None: 100, and as many as
            2.5 GB hold, but at least 20, for images above a megapixel.
        history_dtype: ``fp32``, or ``bf16`` for half of that: the images that fit become larger,
            runs on a CPU slower; None keeps the image's own.
        learning_rate: 1 for L-BFGS; 0.02 for Adam, in units of the [0, 1] range of the image.
        tolerance_grad: L-BFGS stops at a largest gradient component below this; negative: never.
        tolerance_change: L-BFGS stops at a change of the image or the loss below this.
        init: ``content``, ``noise`` (white, as the paper), ``style``, or an image file.
        seed: of the noise.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; None takes the best there is.
        normalise: another spelling of ``normalize``.
    """

    preset: str = "gatys-pytorch"
    size: int | None = None
    iterations: int | None = None
    style_weights: Sequence[float] | None = None
    style_scale: float = 1.0
    content_layers: Layers | None = None
    style_layers: Layers | None = None
    content_weight: float | None = None
    style_weight: float | None = None
    tv_weight: float | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
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
    init: str | Path | None = None
    seed: int = 0
    device: str | torch.device | None = None
    normalise: InitVar[bool | None] = None

    def __post_init__(self, normalise: bool | None) -> None:
        self._accept_former_names(normalise)
        _choice("engine", self.engine, ("auto", *ENGINES))
        _choice("precision", self.precision, ("auto", *PRECISIONS))
        _choice("optimizer", self.optimizer, OPTIMIZERS)
        if isinstance(self.scales, str):
            _choice("scales", self.scales, ("auto", "none"))
        if self.history_dtype is not None:
            _choice("history_dtype", self.history_dtype, tuple(HISTORY_DTYPES))
        for name in ("size", "iterations", "history"):
            _whole(name, getattr(self, name))
        if self.polish is not None and (not isinstance(self.polish, int) or self.polish < 0):
            raise ValueError(f"polish is {self.polish!r}: expected a whole number of 0 or more")
        _positive("style_scale", self.style_scale)
        _positive("learning_rate", self.learning_rate)
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed!r}: expected a whole number from 0 to 2^63 - 1")
        self._check_init()
        # These raise where the preset, an override of it, or a scale is wrong.
        self.resolved_preset()
        self.schedule()

    def resolved_preset(self) -> Preset:
        """The preset with this run's numbers in place of its own."""
        names = {field.name for field in fields(Preset)}
        overrides = {
            name: value for name, value in vars(self).items() if name in names and value is not None
        }
        for name in ("content_layers", "style_layers"):
            if name in overrides:
                overrides[name] = layer_weights(overrides[name])
        return replace(preset(self.preset), **overrides)

    def schedule(self) -> dict[int, int]:
        """Size -> iterations of every scale, coarse to fine, the one asked for last.

        ``auto`` is taken for ``none``, since it depends on the pictures.
        """
        final = self.resolved_preset()
        scales = () if self.scales is None or isinstance(self.scales, str) else self.scales
        if not isinstance(scales, Mapping):
            scales = dict.fromkeys(scales, final.iterations)
        for size, iterations in scales.items():
            _whole("a scale", size)
            _whole(f"the number of iterations at scale {size}", iterations)
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
            raise ValueError(f"{len(weights)} style_weights for {styles} style images")
        if not all(0 <= weight < float("inf") for weight in weights) or not sum(weights):
            raise ValueError(
                f"style_weights are {weights}: expected numbers >= 0, not all of them 0"
            )
        return [weight / sum(weights) for weight in weights]

    @property
    def starts_from_file(self) -> bool:
        """Whether ``init`` names an image file."""
        return self.init is not None and self.init not in INITS

    def _accept_former_names(self, normalise: bool | None) -> None:
        if normalise is not None:
            object.__setattr__(self, "normalize", normalise)
        if self.engine == "plain":
            object.__setattr__(self, "engine", "eager")

    def _check_init(self) -> None:
        if not self.starts_from_file or Path(str(self.init)).is_file():
            return
        raise ValueError(
            f"unknown init {str(self.init)!r}: expected {', '.join(INITS)} or an image file"
        )


def _choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}: expected one of {', '.join(choices)}")


def _whole(name: str, value: int | None) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError(f"{name} is {value!r}: expected a whole number of 1 or more")


def _positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < float("inf"):
        raise ValueError(f"{name} is {value!r}: expected a number above 0")

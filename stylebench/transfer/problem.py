"""A run at one size and precision: engine, targets and starting image, on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from stylebench.engines import ENGINES, Engine
from stylebench.engines.fused.choices import choosing_as
from stylebench.engines.tiled import TILED
from stylebench.image.color import with_luminance
from stylebench.image.load import resize
from stylebench.image.metadata import NO_METADATA, Metadata
from stylebench.model.normalize import normalized
from stylebench.model.presets import Preset
from stylebench.model.regions import Region
from stylebench.model.tiles import UNCUT, unit_of
from stylebench.model.vgg import VGG19, Preprocessing
from stylebench.processes.bands import ONE_BAND, Bands, bands_of
from stylebench.processes.ranks import ALONE, Ranks
from stylebench.transfer.device import choose_history
from stylebench.transfer.fields import mask_names
from stylebench.transfer.footprint import Choices, footprint
from stylebench.transfer.inputs import Inputs, fit_pictures
from stylebench.transfer.reuse import BoundEngine, engine_key
from stylebench.transfer.settings import Settings
from stylebench.transfer.start import starting_image


@dataclass(frozen=True)
class Problem:
    """One run at one size, ready to start.

    Attributes:
        engine: bound to the network, the objective and the targets.
        image: the starting image, preprocessed [1, 3, H, W]; the rows of this process.
        preprocessing: how ``image`` relates to RGB.
        alpha: [1, H, W], the content's, or None.
        preset: the preset with the run's overrides.
        parameters: every choice as it was resolved, ready for JSON.
        metadata: the content's, which the result keeps.
        noiseless: [1, 3, H, W], ``image`` without the noise mixed into it; None: nothing was.
        colors: RGB [3, H, W], whose chrominance the picture gets, or None.
        give_back: lets later runs have the engine, once this one needs it no longer; or None.
        ranks: the processes of the run.
        bands: the rows of ``image`` that each of them has; a picture too low for all of them is
            every one's own.
    """

    engine: Engine
    image: Tensor
    preprocessing: Preprocessing
    alpha: Tensor | None
    preset: Preset
    parameters: Mapping[str, Any]
    metadata: Metadata = NO_METADATA
    noiseless: Tensor | None = None
    colors: Tensor | None = None
    give_back: Callable[[], None] | None = None
    ranks: Ranks = ALONE
    bands: Bands = ONE_BAND

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the whole image, [1, 3, H, W]."""
        height = self.image.shape[2] if self.bands.ranks.alone else self.bands.height
        return 1, 3, height, self.image.shape[3]

    @property
    def description(self) -> str:
        """Size, engine, device, weights, preset and optimizer in one line."""
        chosen = self.parameters
        tiles = "" if chosen["tile"] == "none" else f", tile {chosen['tile']}"
        return (
            f"{chosen['width']} x {chosen['height']} px, engine {chosen['engine']} "
            f"{chosen['precision']} on {chosen['device']}, weights {chosen['weights']}, "
            f"preset {chosen['preset']}, {chosen['optimizer']}{tiles}{self._processes}"
        )

    @property
    def start(self) -> Tensor:
        """The picture [1, 3, H, W] that the run's change is told from, from size to size."""
        return self.image if self.noiseless is None else self.noiseless

    @property
    def _processes(self) -> str:
        if self.ranks.alone:
            return ""
        return f", {self.ranks.size} processes" + self.bands.ranks.alone * " with the whole of it"

    def rgb(self, image: Tensor) -> Tensor:
        """Preprocessed [1, 3, H, W] -> [3, H, W] fp32 in [0, 1] on the CPU."""
        rgb = self.preprocessing.invert(image.detach())[0].clamp(0, 1).float().cpu()
        return rgb if self.colors is None else with_luminance(self.colors, rgb)

    def picture(self, image: Tensor) -> Tensor:
        """As ``rgb``, of the rows of all processes, on rank 0; all of them have to ask for it."""
        return self.rgb(self.bands.at_first(image.detach()))


def build_problem(
    inputs: Inputs, settings: Settings, *, last: bool = False, ranks: Ranks = ALONE
) -> Problem:
    """Resize and preprocess the pictures, build the network, capture the targets.

    Args:
        inputs: from ``load_inputs``.
        settings: their size, engine and precision may differ from those the inputs were loaded by.
        last: no other problem is built of ``inputs``, whose weights this one takes.
        ranks: the processes that build it together.

    Raises:
        ValueError: an engine, precision or device that cannot be had, or a size too small for the
            layers (``ImageError``).
    """
    settings = settings.sized(inputs.content.size)
    sizes = fit_pictures(inputs, settings, settings.resolved_preset().size)
    choices = Choices.of(settings, sizes.content[0] * sizes.content[1])
    bands = bands_of(ranks, sizes.content[0], unit_of(choices.layers))
    style_weights = settings.normalized_style_weights(len(inputs.styles))
    content = resize(inputs.content.rgb, sizes.content)
    pairs = zip(inputs.styles, sizes.styles, strict=True)
    styles = [resize(style.rgb, size) for style, size in pairs]
    regions = inputs.masks.regions(sizes.content, sizes.styles) if inputs.masks else []
    bound = give_back = None
    if inputs.engines is not None:
        key = engine_key(choices, settings.weights, content, styles, style_weights, regions)
        bound = inputs.engines.take(key)
    if bound is None:
        with choosing_as(ranks.word_of_first):
            bound = _bind(
                inputs, choices, content, styles, style_weights, regions, bands.ranks, last=last
            )
        preprocess = _Preprocess(bound.preprocessing, choices)
    else:
        preprocess = _Preprocess(bound.preprocessing, choices)
        bound.engine.retarget(preprocess(content))
    if inputs.engines is not None:
        give_back = partial(inputs.engines.put, key, bound)
    resolved = {
        "width": sizes.content[1],
        "height": sizes.content[0],
        "style_weights": style_weights,
        "masks": mask_names(settings.masks),
        **bound.identity,
        "engine": choices.engine,
        "precision": choices.precision.name,
        "optimizer": choices.optimizer,
        "history": choose_history(settings, sizes.content[0] * sizes.content[1]),
        "tile": "none" if choices.tiling is None else choices.tiling.name,
        "device": str(choices.device) if ranks.alone else choices.device.type,
        "processes": ranks.size,
    }
    alpha, preset = inputs.content.alpha, choices.preset
    start = starting_image(preset.init, settings.seed, sizes.content, inputs, style_weights)
    colors = inputs.chrominance(settings.color)

    def own(rgb: Tensor) -> Tensor:
        return preprocess(bands.own(rgb[None])[0])

    return Problem(
        engine=bound.engine,
        image=own(start.rgb),
        preprocessing=bound.preprocessing,
        alpha=None if alpha is None else resize(alpha, sizes.content),
        preset=preset,
        parameters={**vars(settings), **vars(preset), **resolved},
        metadata=inputs.content.metadata,
        noiseless=None if start.noiseless is start.rgb else own(start.noiseless),
        # Rank 0 alone has the whole picture to color.
        colors=None if colors is None or not ranks.first else resize(colors, sizes.content),
        give_back=give_back,
        ranks=ranks,
        bands=bands,
    )


def _bind(
    inputs: Inputs,
    choices: Choices,
    content: Tensor,
    styles: Sequence[Tensor],
    style_weights: Sequence[float],
    regions: Sequence[Region],
    ranks: Ranks,
    *,
    last: bool,
) -> BoundEngine:
    """An engine of the weights of ``inputs``, and targets of pictures [3, H, W]."""
    preset, precision, size = choices.preset, choices.precision, content.shape[-2:]
    weights = inputs.weights_for(last=last)
    preprocess = _Preprocess(weights.preprocessing, choices)
    image, paintings = preprocess(content), [preprocess(style) for style in styles]
    if preset.normalize:
        images = [image, *paintings]
        weights = normalized(
            weights, images, preset.deepest_layer, preset.pooling, choices.tiling, ranks,
            preset.normalize_floor,
        )  # fmt: skip
    identity = weights.identity
    network = VGG19(weights, preset.deepest_layer, preset.pooling)
    network = network.to(choices.device, precision.wide)
    del weights  # the network has those that it needs, and engines convert them
    targets = preset.objective(*size), image, paintings, style_weights, precision
    parts = [region.to(image) for region in regions]
    tiling = choices.tiling
    # Tiles alone have windows that wrap around in the fused engine, and bands.
    if (preset.seamless and choices.engine == "fused") or not ranks.alone:
        tiling = tiling or UNCUT
    engine: Engine = (
        ENGINES[choices.engine](network, *targets, parts)
        if tiling is None
        else TILED[choices.engine](network, *targets, tiling, parts, ranks)
    )
    held = footprint(choices, (size[0], size[1]), [], last).engine
    return BoundEngine(engine, preprocess.preprocessing, identity, held)


@dataclass(frozen=True)
class _Preprocess:
    """The way from a picture [3, H, W] to the network's variable [1, 3, H, W].

    The image and the optimizer are never narrower than fp32, whatever the engine computes in.
    """

    preprocessing: Preprocessing
    choices: Choices

    def __call__(self, rgb: Tensor) -> Tensor:
        """RGB [3, H, W] in [0, 1] -> [1, 3, H, W] on the device."""
        return self.preprocessing.apply(
            rgb[None].to(self.choices.device, self.choices.precision.wide)
        )

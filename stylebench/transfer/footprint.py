"""The memory of a run in bytes, part by part, told from sizes and choices alone.

torch writes zeros into every buffer as it makes it, so that all of a history is in memory from the
first iteration on. Only torch's own L-BFGS lets its list of pairs grow.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from stylebench.model.precision import PRECISIONS, Precision
from stylebench.model.presets import Preset
from stylebench.model.tiles import UNCUT, Tiling, blocks, halo_of
from stylebench.model.vgg import LAYERS, feature_shapes
from stylebench.transfer.device import (
    choose_device,
    choose_engine,
    choose_history,
    choose_optimizer,
    choose_precision,
)
from stylebench.transfer.fields import HISTORY_DTYPES
from stylebench.transfer.masks import NONE, style_of
from stylebench.transfer.settings import Settings

Size = tuple[int, int]  # (height, width) in pixels

_MIB = 2**20
# Measured on CPUs, in bytes beside all that is counted: code compiled or loaded on the way, the
# libraries' workspaces, and memory that the heap does not give back.
_FUSED_LIBRARIES, _LIBRARIES, _COMPILER = 120 * _MIB, 110 * _MIB, 300 * _MIB
_TORCH_OPTIMIZERS = 110 * _MIB  # which import torch's compiler
_OF_ITERATION = 8  # images: start, image, best one, gradient, and what a step makes on the way
_OF_OPTIMIZER = {"lbfgs": 3, "torch-lbfgs": 8, "adam": 4}  # images beside the pairs
_BETWEEN_TAPS = 3  # maps at a time where none is kept
_LOADED = 20_024_384  # weights and biases of all layers


@dataclass(frozen=True)
class Choices:
    """The choices that the memory of a phase depends on.

    Attributes:
        engine: a key of ``ENGINES``.
        precision: of features and weights.
        optimizer: ``lbfgs``, ``torch-lbfgs`` or ``adam``.
        history: pairs of L-BFGS.
        history_dtype: of the pairs.
        preset: with the layers that losses are taken at.
        iterations: of the phase and those before it that its optimizer has seen.
        device: that it runs on.
        tiling: the tiles that feature maps are computed in; None: whole.
        regions: with a style of their own, at most; 0 without masks.
    """

    engine: str
    precision: Precision
    optimizer: str
    history: int
    history_dtype: torch.dtype
    preset: Preset
    iterations: int
    device: torch.device
    tiling: Tiling | None = None
    regions: int = 0

    @classmethod
    def of(cls, settings: Settings, pixels: int) -> Choices:
        """The choices that ``settings`` come to, for an image of so many pixels."""
        device = choose_device(settings.device)
        engine = choose_engine(settings, device)
        precision = PRECISIONS[choose_precision(settings, engine, device)]
        optimizer = choose_optimizer(settings, engine)
        return cls(
            engine=engine,
            precision=precision,
            optimizer=optimizer,
            history=0 if optimizer == "adam" else choose_history(settings, pixels),
            history_dtype=HISTORY_DTYPES.get(settings.history_dtype or "", precision.wide),
            preset=settings.resolved_preset(),
            iterations=settings.resolved_preset().iterations,
            device=device,
            tiling=None if settings.tile == "auto" else Tiling.of(settings.tile),
            regions=_regions(settings),
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that the network is built of."""
        names = list(LAYERS)
        return tuple(names[: names.index(self.preset.deepest_layer) + 1])

    @property
    def on_cpu(self) -> bool:
        """Whether the memory is the process's own."""
        return self.device.type == "cpu"


@dataclass(frozen=True)
class Footprint:
    """Bytes that a phase holds while it iterates, beside what the process held before.

    Attributes:
        network: the weights, as they were loaded and as the engine converts them.
        targets: the content's features and the Gram matrices.
        maps: features and gradients.
        history: the pairs of L-BFGS.
        images: the image, its copies, and the optimizer's buffers beside its pairs.
        libraries: code and workspaces.
        capture: of all that is held while targets are captured, before the iterations.
        engine: of what the engine keeps after the iterations; autograd keeps no maps.
    """

    network: int
    targets: int
    maps: int
    history: int
    images: int
    libraries: int
    capture: int
    engine: int

    @property
    def parts(self) -> dict[str, int]:
        """The parts of an iteration by name."""
        names = ("network", "targets", "maps", "history", "images", "libraries")
        return {name: getattr(self, name) for name in names}

    @property
    def total(self) -> int:
        """The peak."""
        return max(self.capture, sum(self.parts.values()))

    @property
    def is_of_capture(self) -> bool:
        """Whether the peak is that of the targets: a style image is far larger than the result."""
        return self.capture > sum(self.parts.values())


def footprint(choices: Choices, content: Size, styles: Sequence[Size], last: bool) -> Footprint:
    """The memory of a phase.

    Args:
        choices: its engine, precision, optimizer and history.
        content: of the image.
        styles: of the style images.
        last: no phase follows: the weights need not be kept as they were loaded.
    """
    image = _image(content, choices)
    network = _network(choices, last)
    libraries = _libraries(choices)
    copies = image + sum(_image(style, choices) for style in styles)
    captured = max(_captured(choices, size) for size in (content, *styles))
    targets, maps = _targets(choices, content), _iterated(choices, content)
    return Footprint(
        network=network,
        targets=targets,
        maps=maps,
        history=_history(choices, image),
        images=image * (_OF_ITERATION + _OF_OPTIMIZER[choices.optimizer]),
        libraries=libraries,
        capture=network + libraries + copies + captured,
        engine=_converted(choices) + targets + (maps if choices.engine == "fused" else 0),
    )


def _converted(choices: Choices) -> int:
    """The weights as the engine has them; the fused one's, of both directions."""
    weights = sum(9 * LAYERS[name][0] * LAYERS[name][1] for name in _named(choices, "conv"))
    kernels = 2 if choices.engine == "fused" else 1
    return kernels * weights * choices.precision.dtype.itemsize


def _network(choices: Choices, last: bool) -> int:
    """The weights as the engine has them, and as they were loaded, into the machine's memory."""
    converted = _converted(choices)
    loaded = 0 if last or not choices.on_cpu else _LOADED * torch.float32.itemsize
    shares = choices.engine == "reference" and choices.precision.dtype == torch.float32
    return max(loaded, converted) if shares else loaded + converted


def _targets(choices: Choices, content: Size) -> int:
    """The features P, and of each Gram matrix the target, the image's own and its gradient.

    With masks a Gram matrix a region; and its guidance, whole and cut to its box, and the mask.
    """
    preset, itemsize = choices.preset, choices.precision.wide.itemsize
    features = sum(_elements(preset.content_layers, content).values())
    grams = sum(LAYERS[layer][1] ** 2 for layer in preset.style_layers)
    shapes = feature_shapes(preset.style_layers, *content).values()
    guidance = 2 * sum(positions for _, positions in shapes) + content[0] * content[1]
    return itemsize * (features + 3 * grams * max(1, choices.regions) + guidance * choices.regions)


def _regions(settings: Settings) -> int:
    """The pairs of masks that have a style, and the background."""
    if not settings.masks:
        return 0
    return 1 + sum(style_of(style) != NONE for _, style in settings.masks)


def _history(choices: Choices, image: int) -> int:
    pairs, itemsize = choices.history, choices.history_dtype.itemsize
    vector = image // choices.precision.wide.itemsize * itemsize
    if choices.optimizer == "torch-lbfgs":
        return 2 * vector * min(pairs, choices.iterations)
    slots = pairs + 1  # one more is being formed
    return 2 * (vector * slots + 8 * slots**2) if pairs else 0


def _image(size: Size, choices: Choices) -> int:
    return 3 * size[0] * size[1] * choices.precision.wide.itemsize


def _libraries(choices: Choices) -> int:
    if not choices.on_cpu:
        return 0
    of_engine = _FUSED_LIBRARIES if choices.engine == "fused" else _LIBRARIES
    of_compiler = _COMPILER if choices.engine == "compiled" else 0
    return of_engine + of_compiler + _TORCH_OPTIMIZERS * (choices.optimizer == "torch-lbfgs")


def _iterated(choices: Choices, size: Size) -> int:
    """The maps of an iteration."""
    seamless, taps = choices.preset.seamless, choices.preset.taps
    if choices.tiling is not None or (seamless and choices.engine == "fused"):
        return _tiled_maps(choices, size, choices.tiling or UNCUT, taps, seamless)
    if choices.engine == "fused":
        return _fused_maps(choices, size, taps)
    return _autograd_maps(choices, size)


def _captured(choices: Choices, size: Size) -> int:
    """The maps of one picture while its targets are captured."""
    preset, largest = choices.preset, max(_elements(choices.layers, size).values())
    wide = choices.precision.wide.itemsize
    if choices.tiling is not None:
        return _tiled_maps(choices, size, choices.tiling, preset.style_layers)
    if choices.engine == "fused":
        maps = _fused_maps(choices, size, preset.style_layers)
    else:
        taps = sum(_elements(preset.taps, size).values())
        maps = wide * taps + _BETWEEN_TAPS * largest * choices.precision.dtype.itemsize
    if preset.normalize:  # all means are taken of maps that are kept, one of them in fp64
        kept = sum(_elements(_named(choices, "relu"), size).values())
        maps = max(maps, wide * kept + torch.float64.itemsize * largest)
    if choices.precision.rescaled:  # it is calibrated in fp32
        maps = max(maps, _BETWEEN_TAPS * largest * wide)
    return maps


def _fused_maps(choices: Choices, size: Size, taps: Collection[str]) -> int:
    """The maps that ``Stage`` keeps: no pooling's, or with a tap; of a pooling, its code."""
    itemsize, order = choices.precision.dtype.itemsize, list(LAYERS)
    elements = _elements(choices.layers, size)
    total = 0
    for conv in _named(choices, "conv"):
        relu, after = order[order.index(conv) + 1 :][:2]
        pooled = after.startswith("pool") and after in elements
        total += itemsize * elements[conv] * (conv in taps)
        total += itemsize * elements[conv] * (relu in taps or not pooled)
        total += (itemsize + 1) * elements[after] if pooled else 0
    # A GPU takes a map whole: before and after what follows it, and its gradient.
    whole = 0 if choices.on_cpu else _BETWEEN_TAPS * itemsize * max(elements.values())
    return total + whole + _masked_maps(choices, size)


def _masked_maps(choices: Choices, size: Size) -> int:
    """On a GPU the masked features of one region and their gradient; a CPU takes tiles of them."""
    if not choices.regions or choices.on_cpu:
        return 0
    largest = max(_elements(choices.preset.style_layers, size).values(), default=0)
    return 2 * choices.precision.dtype.itemsize * largest


def _autograd_maps(choices: Choices, size: Size) -> int:
    """What autograd keeps until the gradient of the last Gram matrix has been computed."""
    itemsize, wide = choices.precision.dtype.itemsize, choices.precision.wide.itemsize
    relus = sum(_elements(_named(choices, "relu"), size).values())
    pools = sum(_elements(_named(choices, "pool"), size).values())
    of_windows = torch.int64.itemsize if choices.preset.pooling == "max" else 0
    taps = _elements(choices.preset.taps, size).values()
    widened = sum(taps) * wide if itemsize < wide else 0
    gradients = wide * (sum(taps) + 2 * max(taps, default=0))
    masked = _elements(choices.preset.style_layers, size).values()
    of_regions = wide * choices.regions * (sum(masked) + max(masked, default=0))
    # A seamless image's convolutions keep their input with the opposite border around it.
    padded = itemsize * (relus + pools) if choices.preset.seamless else 0
    maps = itemsize * relus + (itemsize + of_windows) * pools
    return maps + widened + gradients + of_regions + padded


def _tiled_maps(
    choices: Choices, size: Size, tiling: Tiling, taps: Collection[str], seamless: bool = False
) -> int:
    """The maps of an iteration in tiles.

    Every block's output is whole, and the largest one's gradient, which is half as large and takes
    its place. A block's other maps are whole too if it is not cut; of the blocks that are, the tile
    of one at a time is in memory. A seamless image's whole maps have a halo around them.
    """
    (height, width), itemsize = size, choices.precision.dtype.itemsize
    whole = window = largest = 0
    for layers in blocks(choices.layers):
        channels = LAYERS[layers[0]][1]
        pools = layers[-1].startswith("pool")
        kept = sum(name.startswith("relu") for name in layers)
        if choices.engine == "fused":
            kept -= pools and layers[-2] not in taps
        else:
            kept *= 2  # what convolutions return is kept beside the activations for a while
        pooled = (height // 2) * (width // 2) * channels if pools else 0
        whole += pooled * (itemsize + 1)
        largest = max(largest, pooled * itemsize // 2)
        inner = (kept + 1) * channels * itemsize
        read = tiling.window(layers, height, width)
        if read is None:
            around = 2 * halo_of(layers) if seamless else 0
            whole += inner * (height + around) * (width + around)
        else:
            window = max(window, inner * read[0] * read[1])
        height, width = height // 2, width // 2
    return whole + window + largest


def _named(choices: Choices, kind: str) -> list[str]:
    return [name for name in choices.layers if name.startswith(kind)]


def _elements(names: Collection[str], size: Size) -> dict[str, int]:
    """Layer -> elements of its map."""
    shapes = feature_shapes(names, *size).items()
    return {name: channels * positions for name, (channels, positions) in shapes}

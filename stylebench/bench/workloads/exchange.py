"""The bytes that one of several processes sends in an iteration, beside its operations.

Counted by the shapes that are exchanged, not measured; ``Ranks.sent`` counts what is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stylebench.bench.workloads.roofline import ConvStack
from stylebench.model.presets import Preset
from stylebench.model.tiles import aligned_halo_of, blocks, unit_of
from stylebench.model.vgg import LAYERS
from stylebench.processes.bands import Rows
from stylebench.processes.ranks import SMALL

_WIDE, _COMPLEX, _SUM = 4, 8, 8  # bytes: fp32 of the image, its spectrum, and sums in fp64
_LOSS_NUMBERS = 2  # beside a content loss and a number of positions a layer: tv, and whether finite


@dataclass(frozen=True)
class Exchange:
    """One iteration of one process.

    Attributes:
        halos: bytes of maps and gradients to its neighbors.
        sums: bytes of Gram matrices, losses and the inner products of L-BFGS.
        spectrum: bytes of the preconditioner's transform.
        flops: of its convolutions, forward and backward, those of its halos among them.
        repeated: share of the operations that its neighbors do as well.
    """

    halos: int
    sums: int
    spectrum: int
    flops: float
    repeated: float

    @property
    def total(self) -> int:
        """All bytes."""
        return self.halos + self.sums + self.spectrum


def exchange(
    size: tuple[int, int],
    processes: int,
    preset: Preset,
    itemsize: int,
    history: int,
    rank: int | None = None,
) -> Exchange:
    """The exchange of a picture of ``size`` (height, width).

    Args:
        size: in pixels.
        processes: that share it.
        preset: with the layers of the losses.
        itemsize: bytes of a feature.
        history: pairs of L-BFGS.
        rank: of the process; None: one in the middle.
    """
    height, width = size
    layers = list(LAYERS)[: list(LAYERS).index(preset.deepest_layer) + 1]
    rank = processes // 2 if rank is None else rank
    whole = Rows.of(height, processes, rank, unit_of(layers))
    of_blocks = blocks(layers)
    halos, rows, across, own_flops, flops = 0, whole, width, 0.0, 0.0
    for index, names in enumerate(of_blocks):
        rows = rows.reading(aligned_halo_of(names))
        inputs, channels = LAYERS[names[0]]
        bytes_each = _WIDE if index == 0 else itemsize
        halos += _rows_sent(rows, processes) * across * inputs * bytes_each
        if index + 1 < len(of_blocks):
            halos += _rows_sent(rows.pooled(), processes) * (across // 2) * channels * itemsize
        of_row = ConvStack.flops_of(names, across)
        own_flops += of_row * (rows.stop - rows.start)
        flops += of_row * rows.held
        rows, across = rows.pooled(), across // 2
    return Exchange(
        halos=halos,
        sums=_sums(preset, processes, history),
        spectrum=_spectrum(height, width, whole, processes),
        flops=flops,
        repeated=1 - own_flops / flops,
    )


def _rows_sent(rows: Rows, processes: int) -> int:
    """The own rows that others hold, once for each of them."""
    others = [rows.of_rank(rank) for rank in range(processes) if rank != rows.rank]
    overlaps = (min(rows.stop, r.last) - max(rows.start, r.first) for r in others)
    return sum(max(0, overlap) for overlap in overlaps)


def _sums(preset: Preset, processes: int, history: int) -> int:
    grams = sum(LAYERS[layer][1] ** 2 for layer in preset.style_layers)
    losses = _LOSS_NUMBERS + len(preset.content_layers) + len(preset.style_layers)
    products = 2 * (2 * (history + 1) + 2) if history else 0
    return sum(_summed(_SUM * count, processes) for count in (grams, products)) + (
        _SUM * losses * (processes - 1)
    )


def _summed(count: int, processes: int) -> int:
    """Bytes that a rank sends so that all have the sum of so many."""
    others = processes - 1
    return count * others if count <= SMALL else 2 * others * -(-count // (_SUM * processes)) * _SUM


def _spectrum(height: int, width: int, rows: Rows, processes: int) -> int:
    columns = width // 2 + 1
    mine = columns * (rows.rank + 1) // processes - columns * rows.rank // processes
    own = rows.stop - rows.start
    return 3 * _COMPLEX * (own * (columns - mine) + (height - own) * mine)


def table(sizes: Sequence[int], processes: int, preset: Preset, itemsize: int, history: int) -> str:
    """Squares of ``sizes`` px, a row each, as Markdown."""
    lines = [
        "| px | halos | sums | spectrum | all, a GPU | TFLOP a GPU | of them repeated |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for side in sizes:
        one = exchange((side, side), processes, preset, itemsize, history)
        counts = (one.halos, one.sums, one.spectrum, one.total)
        shown = " | ".join(f"{count / 1e6:.1f} MB" for count in counts)
        lines.append(f"| {side} | {shown} | {one.flops / 1e12:.1f} | {100 * one.repeated:.1f} % |")
    return "\n".join(lines)

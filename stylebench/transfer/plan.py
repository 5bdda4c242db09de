"""The plan of a run's memory: made before anything is allocated, and refused where it cannot fit.

The estimate is right to within ``MARGIN``. A run is refused where even the least that it can take
is not free, and warned of where the estimate is not.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

import torch

from stylebench.image.load import ImageError
from stylebench.model.out_of_memory import TooLarge, out_of_memory
from stylebench.model.tiles import Tiling, unit_of
from stylebench.transfer.device import choose_device
from stylebench.transfer.footprint import Choices, Footprint, footprint
from stylebench.transfer.memory import Memory, held, memory_of, readable
from stylebench.transfer.reuse import MOST_BYTES
from stylebench.transfer.schedule import Phase, make_schedule, polish_iterations
from stylebench.transfer.settings import Settings
from stylebench.transfer.share import ALL, Share

if TYPE_CHECKING:
    from stylebench.transfer.inputs import Sizes

MARGIN = 0.15  # of what was measured
_FEW_PAIRS = 5  # with which a larger picture is worth it
_LOWEST_TILE = 64  # rows; with fewer the halo costs more than the memory is worth

SizesAt = Callable[[int], "Sizes"]  # the longest side of the result -> sizes of all pictures


@dataclass(frozen=True)
class PlannedPhase:
    """A phase of a run and its memory.

    Attributes:
        phase: its settings and iterations.
        sizes: of its pictures.
        choices: its engine, precision, optimizer and history.
        footprint: in bytes.
    """

    phase: Phase
    sizes: Sizes
    choices: Choices
    footprint: Footprint


@dataclass(frozen=True)
class Plan:
    """The memory of a run, beside the memory there is.

    Attributes:
        settings: of the run; with rows of tiles where it does not fit whole, and ``history_dtype``
            bf16 where it does not fit otherwise.
        phases: one a size or precision.
        device: that it runs on.
        held: bytes that the process holds before it.
        memory: of the device; None where it cannot be told.
        sizes_at: the longest side of the result -> sizes of all pictures.
        reuse: whether engines are kept for later runs, where there is room for them.
        processes: that compute the picture together; all figures are of one.
        instead_of: the plan of the settings that were asked for, where it does not fit.
    """

    settings: Settings
    phases: Sequence[PlannedPhase]
    device: torch.device
    held: int
    memory: Memory | None
    sizes_at: SizesAt
    reuse: bool = False
    processes: int = 1
    instead_of: Plan | None = None

    @property
    def needed(self) -> int:
        """The run's estimated peak in bytes, beside ``held``."""
        return self._kept + self.largest.footprint.total

    @property
    def _kept(self) -> int:
        """Bytes of the engines of earlier phases that wait for later runs."""
        engines = sum(planned.footprint.engine for planned in self.phases[:-1])
        return min(MOST_BYTES, engines) if self.reuse else 0

    @property
    def least(self) -> int:
        """Bytes that the run takes at least; libraries may be loaded already."""
        return max(_least(planned.footprint) for planned in self.phases)

    @property
    def peak(self) -> int:
        """The estimated peak of the process, or of what it holds of a GPU, in bytes."""
        return self.held + self.needed

    @property
    def fits(self) -> bool:
        """Whether the estimate is free."""
        return self.memory is None or self.needed <= self.memory.free

    @property
    def keeps_pairs(self) -> bool:
        """Whether there are pairs whose dtype is open."""
        return self.phases[-1].choices.optimizer == "lbfgs"

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Add ``line`` as a note to the error of memory that runs out within."""
        try:
            yield
        except BaseException as error:
            if out_of_memory(error):
                error.add_note(self.line())
            raise

    def check(self) -> None:
        """Refuse what cannot fit; warn of what may not.

        Raises:
            TooLarge: in one line, with what would fit.
            ValueError: there are more processes than the picture has bands for.
        """
        self._check_bands()
        if self.instead_of:
            warnings.warn(
                f"history_dtype is bf16, so that the run fits: in fp32 {self.instead_of.need}",
                stacklevel=2,
            )
        if self.memory is None or self.fits:
            return
        if self.least > self.memory.free:
            raise TooLarge(self.line())
        warnings.warn(f"memory may run out: {self.line()}", stacklevel=2)

    def _check_bands(self) -> None:
        last = self.phases[-1]
        height, unit = last.sizes.content[0], unit_of(last.choices.layers)
        if self.processes > max(1, height // unit):
            raise ValueError(
                f"{self.processes} processes cannot share a picture of {height} rows, {unit} or "
                f"more to each: start {max(1, height // unit)}, or raise the size"
            )

    def line(self) -> str:
        """What the run needs, what there is, and what would fit, in one line."""
        largest = self.largest
        areas = [height * width for height, width in (largest.sizes.content, *largest.sizes.styles)]
        if largest.footprint.is_of_capture and max(areas) > areas[0]:
            return self._line_of_style(largest)
        return f"{self.need}: lower {self._advice(largest)}"

    @property
    def need(self) -> str:
        """What the run needs, and what there is."""
        planned = self.largest
        height, width = planned.sizes.content
        pairs = planned.choices.history
        by = f"{pairs} pairs of L-BFGS" if pairs else "Adam"
        each = f" in each of {self.processes} processes" if self.processes > 1 else ""
        need = readable(self.needed)
        return f"{width} x {height} px with {by} need {need}{each}, and {self._there}"

    @property
    def largest(self) -> PlannedPhase:
        """The phase that takes the most memory."""
        return max(self.phases, key=lambda planned: planned.footprint.total)

    @property
    def _there(self) -> str:
        if self.memory is None:
            return f"the memory of {self.device} is not known"
        return (
            f"{self.device} has {readable(self.memory.free)} free of {readable(self.memory.whole)}"
        )

    @property
    def _room(self) -> int:
        """Bytes that a smaller run may take: those that are free, and less than this one's."""
        less = round((1 - MARGIN) * self.needed)
        return less if self.memory is None else min(self.memory.free, less)

    def _line_of_style(self, largest: PlannedPhase) -> str:
        height, width = max(largest.sizes.styles, key=lambda size: size[0] * size[1])
        need = f"a style image of {width} x {height} px needs {readable(self.needed)}"
        return f"{need}, and {self._there}: lower {self._advice(largest, of_style=True)}"

    def _advice(self, largest: PlannedPhase, of_style: bool = False) -> str:
        """The largest size, and the longest history or a larger size with a short one, that fit.

        Args:
            largest: what does not fit.
            of_style: by its style images, whose largest scale that fits is told as well.
        """
        pairs, side = largest.choices.history, max(largest.sizes.content)
        longest = max(max(size) for size in largest.sizes.styles) / side
        scale = min(self.settings.style_scale, longest)

        def fits(
            side: int, history: int | None = None, too_small: bool = True, style: float = scale
        ) -> bool:
            settings = self.settings
            if history is not None and pairs:
                settings = replace(settings, history=history)
            sizes_at = _with_styles(self.sizes_at, style / scale)
            try:
                phases = _planned(_at_one_size(settings, side), sizes_at, self.processes)
                return max(planned.footprint.total for planned in phases) <= self._room
            except ImageError:  # too small for the layers: larger ones may do
                return too_small
            except ValueError:
                return False

        advice = []
        smallest = self.settings.resolved_preset().smallest_side
        fewer = _largest(lambda count: fits(side, count), 0, pairs)
        as_it_is = _largest(fits, smallest - 1, side)
        if as_it_is >= smallest and fits(as_it_is, too_small=False):
            advice.append(f"the size to {as_it_is} px")
        if of_style:
            percent = _largest(lambda part: fits(side, style=part / 100), 0, round(100 * scale))
            if percent:
                advice.append(f"style_scale to {percent / 100:g}")
        if fewer:
            advice.append(f"history to {fewer}")
        elif pairs > _FEW_PAIRS:
            with_few = _largest(lambda size: fits(size, _FEW_PAIRS), smallest - 1, side)
            if with_few > as_it_is and fits(with_few, _FEW_PAIRS, too_small=False):
                advice.append(f"history to {_FEW_PAIRS} and the size to {with_few} px")
        return ", or ".join(advice) or "the size or history"


def make_plan(
    settings: Settings,
    sizes_at: SizesAt,
    *,
    may_choose: bool = True,
    reuse: bool = False,
    share: Share = ALL,
) -> Plan:
    """The plan of a run, in the first way that fits: whole, in tiles, with a history in bf16.

    Args:
        settings: with the size and the scales in numbers.
        sizes_at: the longest side of the result -> sizes of all pictures.
        may_choose: there is a choice of what the settings leave open.
        reuse: engines may be kept for later runs.
        share: of this process.
    """
    device, count = choose_device(settings.device), share.processes
    memory, before = share.memory if count > 1 else memory_of(device), held(device)
    phases = _planned(_phases(settings), sizes_at, count)
    plan = Plan(settings, phases, device, before, memory, sizes_at, reuse, count)
    if not plan.fits:
        plan = replace(plan, reuse=False)
    if plan.fits or not may_choose:
        return plan
    tiles = _in_tiles(plan)
    least = plan
    for smaller in tiles:
        phases = _planned(_phases(smaller), sizes_at, count)
        least = replace(plan, settings=smaller, phases=phases)
        if least.fits:
            return least
    if plan.keeps_pairs and not settings.history_dtype:
        for other in [settings, *tiles]:
            smaller = replace(other, history_dtype="bf16")
            phases = _planned(_phases(smaller), sizes_at, count)
            chosen = replace(plan, settings=smaller, phases=phases, instead_of=least)
            if chosen.fits:
                return chosen
    return least


def _in_tiles(plan: Plan) -> list[Settings]:
    """The settings of ``plan`` with rows of tiles, the highest first; they take less memory."""
    if plan.settings.tile != "auto":
        return []
    sizes = [(one.sizes.content, *one.sizes.styles) for one in plan.phases]
    height = max(height for pictures in sizes for height, _ in pictures)
    rows = [_LOWEST_TILE << step for step in range(12) if _LOWEST_TILE << step < height]
    return [replace(plan.settings, tile=Tiling(count).name) for count in reversed(rows)]


def _with_styles(sizes_at: SizesAt, factor: float) -> SizesAt:
    """``sizes_at`` with style images so many times as large."""

    def scaled(longest: int) -> Sizes:
        sizes = sizes_at(longest)
        styles = [(ceil(factor * height), ceil(factor * width)) for height, width in sizes.styles]
        return replace(sizes, styles=styles)

    return scaled


def _phases(settings: Settings) -> list[Phase]:
    return make_schedule(settings, polish_iterations(settings))


def _at_one_size(settings: Settings, size: int) -> list[Phase]:
    """The phases of a run that begins at ``size``: those before it take less."""
    return _phases(replace(settings, scales=None, size=size))


def _planned(phases: Sequence[Phase], sizes_at: SizesAt, processes: int = 1) -> list[PlannedPhase]:
    planned = []
    for phase in phases:
        sizes = sizes_at(phase.settings.resolved_preset().size)
        choices = Choices.of(phase.settings, sizes.content[0] * sizes.content[1], processes)
        need = footprint(choices, sizes.content, sizes.styles, phase.last)
        planned.append(PlannedPhase(phase, sizes, choices, need))
    return planned


def _least(need: Footprint) -> int:
    return round((1 - MARGIN) * (need.total - need.libraries))


def _largest(fits: Callable[[int], bool], low: int, below: int) -> int:
    """The largest number above ``low`` and below ``below`` that fits; ``low`` where none does."""
    high = max(low + 1, below)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low

"""Times of a record, laid beside the parts of a modelled iteration that they are of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from stylebench.bench.model.costs import Modelled
from stylebench.bench.model.parts import PARTS
from stylebench.bench.model.table import line, micro
from stylebench.bench.records.record import Case, Record, Value
from stylebench.model.precision import PRECISIONS

#: Part of a profile (``stylebench.bench.workloads.breakdown``) -> parts of the model.
_OF_PROFILES: Mapping[str, tuple[str, ...]] = {
    "convolutions": ("convolutions forward", "convolutions backward"),
    "style": ("gram, finish", "tap backward"),
    "pooling": ("pooling",),
    "optimizer": ("optimizer",),
}
_PROFILED = {part for parts in _OF_PROFILES.values() for part in parts}
_REST = tuple(part for part in PARTS if part not in _PROFILED)
#: Task of the suite ``kernels`` -> part of the model.
_OF_KERNELS: Mapping[str, str] = {"style forward": "gram, finish", "tap backward": "tap backward"}
#: Layers whose tap is, in half precision, in the kernel of a convolution's gradient.
_TAKEN = {"relu1_1"}


@dataclass(frozen=True)
class Measured:
    """A measured time.

    Attributes:
        name: in the record.
        parts: of the model, that it is of; none: the whole iteration.
        seconds: the median, or a part of it in proportion to a profile.
    """

    name: str
    parts: tuple[str, ...]
    seconds: float


def measured_of(
    record: Record, gpu: str, wanted: Mapping[str, Value], layers: Iterable[str]
) -> list[Measured]:
    """The times of a record that the model has parts for.

    Args:
        record: of the suite ``iteration`` or ``kernels``.
        gpu: the key of a data sheet, which the name of the record's GPU has to contain.
        wanted: precision, width, height, optimizer and history of the iteration.
        layers: the style layers, all of which have to be in a record of kernels.

    Raises:
        ValueError: the record is of another suite or GPU, or has no such case.
    """
    if gpu not in (record.machine.gpu or "").lower():
        raise ValueError(f"the record is of {record.machine.name!r}: expected one of {gpu}")
    if record.suite == "iteration":
        found = list(_of_iteration(record.cases, wanted))
    elif record.suite == "kernels":
        found = list(_of_kernels(record.cases, wanted, set(layers)))
    else:
        raise ValueError(f"the record is of suite {record.suite!r}: expected iteration or kernels")
    if not found:
        asked = ", ".join(f"{name} {value}" for name, value in wanted.items())
        raise ValueError(f"the record has no time of this iteration: expected {asked}")
    return found


def _of_iteration(cases: Iterable[Case], wanted: Mapping[str, Value]) -> Iterator[Measured]:
    for case in cases:
        if case.timing and _fits(case, {"engine": "fused", **wanted}):
            yield Measured("iteration", (), case.timing.median)
            for part, seconds in case.parts.items():
                yield Measured(part, _OF_PROFILES.get(part, _REST), seconds)


def _of_kernels(
    cases: Iterable[Case], wanted: Mapping[str, Value], layers: set[str]
) -> Iterator[Measured]:
    size = {name: wanted[name] for name in ("precision", "width", "height")}
    times: dict[str, dict[str, float]] = {task: {} for task in _OF_KERNELS}
    for case in cases:
        task, layer = str(case.parameters.get("kernel")), str(case.parameters.get("layer"))
        ours = {"implementation": "stylekernels", **size}
        if case.timing and task in times and layer in layers and _fits(case, ours):
            times[task][layer] = case.timing.median
    for task, by_layer in times.items():
        if set(by_layer) == layers:
            own = layers - (_TAKEN if task == "tap backward" and _is_half(wanted) else set())
            yield Measured(task, (_OF_KERNELS[task],), sum(by_layer[layer] for layer in own))


def _is_half(wanted: Mapping[str, Value]) -> bool:
    return PRECISIONS[str(wanted["precision"])].dtype.itemsize == 2


def _fits(case: Case, wanted: Mapping[str, Value]) -> bool:
    return all(case.parameters.get(name) == value for name, value in wanted.items())


def lines(iteration: Modelled, measured: Iterable[Measured]) -> Iterator[str]:
    """Modelled and measured times side by side."""
    rows = {row.part: row.seconds + row.beside for row in iteration.rows}
    yield ""
    yield line("beside a record", "modelled", "measured", "share")
    for one in measured:
        model = sum(rows.get(part, 0.0) for part in one.parts) if one.parts else iteration.seconds
        yield line(one.name, micro(model), micro(one.seconds), f"{model / one.seconds:.0%}")

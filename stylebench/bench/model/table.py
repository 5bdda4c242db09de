"""The table of a modelled iteration: launches, bytes, operations and time by part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stylebench.bench.model.parts import PARTS, part_of
from stylekernels.model.gpus import GAP, DataSheet
from stylekernels.model.tracer import MAIN, Kernel, Trace

_CONVOLUTIONS = ("convolution", "cudnn_convolution_relu")


@dataclass(frozen=True)
class ModelledKernel:
    """One kernel of an iteration.

    Attributes:
        part: of the iteration.
        name: the kernel's, or that of torch's operator.
        beside: whether it is on the side stream.
        read: bytes.
        written: bytes.
        flops: two a multiply-add.
        arithmetic: of the operations.
        seconds: max(bytes / bandwidth, operations / peak), and a launch's gap.
        described: false where every operand was taken to be read and written.
    """

    part: str
    name: str
    beside: bool
    read: int
    written: int
    flops: float
    arithmetic: str
    seconds: float
    described: bool


@dataclass(frozen=True)
class Row:
    """All kernels of one part; attributes as those of a kernel, added up.

    Attributes:
        part: its name.
        launches: number of kernels.
        read: bytes.
        written: bytes.
        flops: operations.
        seconds: of the kernels that the current stream runs.
        beside: seconds of those on the side stream.
    """

    part: str
    launches: int
    read: int
    written: int
    flops: float
    seconds: float
    beside: float


@dataclass(frozen=True)
class Modelled:
    """One modelled iteration.

    Attributes:
        kernels: in the order of their launch.
        seconds: from its beginning to its end, streams beside each other.
        in_turn: seconds of all kernels one after the other.
        roof: seconds of the convolutions alone, without biases.
        host_waits: operators in which the host waits for the device.
    """

    kernels: Sequence[ModelledKernel]
    seconds: float
    in_turn: float
    roof: float
    host_waits: Sequence[str]

    @property
    def rows(self) -> list[Row]:
        """One row a part, in the order of an iteration."""
        by_part: dict[str, list[ModelledKernel]] = defaultdict(list)
        for kernel in self.kernels:
            by_part[kernel.part].append(kernel)
        return [_row(part, by_part[part]) for part in PARTS if part in by_part]

    @property
    def total(self) -> Row:
        """All parts."""
        return _row("all", self.kernels)


def modelled(trace: Trace, sheet: DataSheet) -> Modelled:
    """The times of a traced iteration by the data sheet of a GPU.

    Kernels of two streams run beside each other as if each had the GPU to itself, but all together
    take no less than all bytes at the memory's bandwidth and all operations at their peaks.
    """
    kernels = [_modelled(kernel, sheet) for kernel in trace.kernels]
    bytes_moved = sum(kernel.read + kernel.written for kernel in kernels)
    operations = sum(k.work.flops / sheet.peaks[k.work.arithmetic] for k in trace.kernels)
    least = max(bytes_moved / sheet.bandwidth, operations)
    return Modelled(
        kernels,
        max(_end(trace, sheet), least),
        sum(kernel.seconds for kernel in kernels),
        sum(kernel.seconds for kernel in kernels if kernel.name in _CONVOLUTIONS),
        trace.host_waits,
    )


def _modelled(kernel: Kernel, sheet: DataSheet) -> ModelledKernel:
    work = kernel.work
    return ModelledKernel(
        part=part_of(kernel.callers),
        name=kernel.name,
        beside=kernel.stream != MAIN,
        read=work.read,
        written=work.written,
        flops=work.flops,
        arithmetic=work.arithmetic,
        seconds=GAP + sheet.seconds(work),
        described=kernel.described,
    )


def _end(trace: Trace, sheet: DataSheet) -> float:
    """Seconds until the current stream has nothing more to do."""
    at: dict[int, float] = defaultdict(float)
    for event in trace.events:
        if isinstance(event, Kernel):
            at[event.stream] += GAP + sheet.seconds(event.work)
        else:
            at[event.stream] = max(at[event.stream], at[event.other])
    return at[MAIN]


def _row(part: str, kernels: Sequence[ModelledKernel]) -> Row:
    return Row(
        part,
        len(kernels),
        sum(kernel.read for kernel in kernels),
        sum(kernel.written for kernel in kernels),
        sum(kernel.flops for kernel in kernels),
        sum(kernel.seconds for kernel in kernels if not kernel.beside),
        sum(kernel.seconds for kernel in kernels if kernel.beside),
    )


def lines(iteration: Modelled, title: str) -> Iterator[str]:
    """The table as text, under ``title``."""
    yield title
    yield "MODELLED by the data sheet, a bound that no GPU reaches: nothing here was measured"
    yield ""
    yield line("part", "launches", "read MB", "written MB", "GFLOP", "us", "us beside")
    for row in [*iteration.rows, iteration.total]:
        yield line(
            row.part, str(row.launches), f"{row.read / 1e6:.1f}", f"{row.written / 1e6:.1f}",
            f"{row.flops / 1e9:.1f}", micro(row.seconds), micro(row.beside),
        )  # fmt: skip
    yield ""
    yield f"iteration   {micro(iteration.seconds)} us, {1 / iteration.seconds:.0f} it/s"
    hidden = iteration.in_turn - iteration.seconds
    yield f"in turn     {micro(iteration.in_turn)} us: {micro(hidden)} us hidden beside others"
    share = iteration.roof / iteration.seconds
    yield f"roof        {micro(iteration.roof)} us, the convolutions alone: {share:.0%} of it"
    if assumed := sorted({kernel.name for kernel in iteration.kernels if not kernel.described}):
        yield f"no description, so all operands are read and written: {', '.join(assumed)}"
    if iteration.host_waits:
        yield f"the host waits in: {', '.join(iteration.host_waits)}"


_WIDTHS = (22, 9, 9, 11, 8, 8, 10)


def line(first: str, *rest: str) -> str:
    """One row of a table."""
    padded = [cell.rjust(width) for cell, width in zip(rest, _WIDTHS[1:], strict=False)]
    return first.ljust(_WIDTHS[0]) + "".join(padded)


def micro(seconds: float) -> str:
    """Microseconds."""
    return f"{1e6 * seconds:.1f}"

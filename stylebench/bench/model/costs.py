"""The time of a traced iteration by the data sheet of a GPU: kernel by kernel, and by part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from stylebench.bench.model.parts import PARTS, part_of
from stylekernels.model.gpus import GAP, DataSheet
from stylekernels.model.tracer import MAIN, Kernel, Trace
from stylekernels.runtime.work import bytes_of

_CONVOLUTIONS = ("convolution", "cudnn_convolution_relu")


@dataclass(frozen=True)
class ModelledKernel:
    """One kernel of an iteration.

    Attributes:
        part: of the iteration.
        name: the kernel's, or that of torch's operator.
        beside: whether it is on the side stream.
        read: bytes.
        cached: of them, those that the L2 cache may still have.
        written: bytes.
        flops: two a multiply-add.
        arithmetic: of the operations.
        seconds: max(bytes / bandwidth, operations / peak), and a launch's gap.
        seconds_cached: likewise, where the cached bytes cost nothing.
        described: false where every operand was taken to be read and written.
    """

    part: str
    name: str
    beside: bool
    read: int
    cached: int
    written: int
    flops: float
    arithmetic: str
    seconds: float
    seconds_cached: float
    described: bool


@dataclass(frozen=True)
class Row:
    """All kernels of one part; attributes as those of a kernel, added up.

    Attributes:
        part: its name.
        launches: number of kernels.
        read: bytes.
        cached: bytes.
        written: bytes.
        flops: operations.
        seconds: of the kernels on the current stream.
        beside: seconds of those on the side stream.
    """

    part: str
    launches: int
    read: int
    cached: int
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
        seconds_cached: likewise, where bytes that the L2 cache may have cost nothing.
        in_turn: seconds of all kernels one after the other.
        roof: seconds of the convolutions alone, without biases.
        host_waits: operators in which the host waits for the device.
    """

    kernels: Sequence[ModelledKernel]
    seconds: float
    seconds_cached: float
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
    cached = cached_bytes(trace.kernels, sheet.l2)
    kernels = [_modelled(*pair, sheet) for pair in zip(trace.kernels, cached, strict=True)]
    bytes_moved = sum(kernel.read + kernel.written for kernel in kernels)
    operations = sum(k.work.flops / sheet.peaks[k.work.arithmetic] for k in trace.kernels)
    seconds = [kernel.seconds for kernel in kernels]
    return Modelled(
        kernels,
        max(_end(trace, seconds), bytes_moved / sheet.bandwidth, operations),
        max(_end(trace, [kernel.seconds_cached for kernel in kernels]), operations),
        sum(seconds),
        sum(kernel.seconds for kernel in kernels if kernel.name in _CONVOLUTIONS),
        trace.host_waits,
    )


def cached_bytes(kernels: Sequence[Kernel], l2: int) -> Iterator[int]:
    """Bytes that each kernel reads and the L2 cache may still have.

    An operand may be there if what was read and written since it was last touched, and itself, fit.
    """
    moved, touched = 0, dict[int, int]()  # memory -> bytes moved until it was last touched
    for kernel in kernels:
        sizes = [(_memory(x), bytes_of(x)) for x in kernel.work.reads]
        yield sum(
            size
            for memory, size in sizes
            if memory in touched and moved - touched[memory] + size <= l2
        )
        sizes += [(_memory(x), bytes_of(x)) for x in kernel.work.writes]
        moved += sum(size for _, size in sizes)
        touched |= {memory: moved for memory, _ in sizes}


def _memory(x: Tensor) -> int:
    return x.untyped_storage()._cdata  # noqa: SLF001


def _modelled(kernel: Kernel, cached: int, sheet: DataSheet) -> ModelledKernel:
    work = kernel.work
    return ModelledKernel(
        part=part_of(kernel.callers),
        name=kernel.name,
        beside=kernel.stream != MAIN,
        read=work.read,
        cached=cached,
        written=work.written,
        flops=work.flops,
        arithmetic=work.arithmetic,
        seconds=GAP + sheet.seconds(work),
        seconds_cached=GAP + sheet.seconds(work, cached),
        described=kernel.described,
    )


def _end(trace: Trace, seconds: Sequence[float]) -> float:
    """Seconds until the current stream has nothing more to do, given those of each kernel."""
    at: dict[int, float] = defaultdict(float)
    left = iter(seconds)
    for event in trace.events:
        if isinstance(event, Kernel):
            at[event.stream] += next(left)
        else:
            at[event.stream] = max(at[event.stream], at[event.other])
    return at[MAIN]


def _row(part: str, kernels: Sequence[ModelledKernel]) -> Row:
    return Row(
        part,
        len(kernels),
        sum(kernel.read for kernel in kernels),
        sum(kernel.cached for kernel in kernels),
        sum(kernel.written for kernel in kernels),
        sum(kernel.flops for kernel in kernels),
        sum(kernel.seconds for kernel in kernels if not kernel.beside),
        sum(kernel.seconds for kernel in kernels if kernel.beside),
    )

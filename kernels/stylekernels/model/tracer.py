"""Kernels of a program, counted without a GPU: it runs on fake CUDA tensors, and nothing computes.

stylekernels' operators plan their launches for a GPU from a data sheet, as they do on that GPU.
Torch's own are taken for one kernel each, a convolution's bias for another; views and allocations
are none.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from stylekernels.model import aten
from stylekernels.ops.dgrad.work import WORK as DGRAD
from stylekernels.ops.image.work import WORK as IMAGE
from stylekernels.ops.lbfgs.work import WORK as LBFGS
from stylekernels.ops.losses.work import WORK as LOSSES
from stylekernels.ops.pointwise.work import WORK as POINTWISE
from stylekernels.ops.pool.work import WORK as POOL
from stylekernels.ops.spectral.work import WORK as SPECTRAL
from stylekernels.ops.style.work import WORK as STYLE
from stylekernels.ops.tv.work import WORK as TV
from stylekernels.runtime.config import Gpu, assuming
from stylekernels.runtime.launch import Launch, diverted
from stylekernels.runtime.operators import FUNCTIONS
from stylekernels.runtime.work import Work

WORK: dict[str, Callable[[Launch], Work]] = {
    **IMAGE, **STYLE, **POOL, **POINTWISE, **DGRAD, **TV, **LOSSES, **SPECTRAL,
    **LBFGS,
}  # fmt: skip
"""Kernel -> the work of one launch of it."""

MAIN = 0
"""The stream that a program begins on."""


@dataclass(frozen=True)
class Kernel:
    """One kernel launch.

    Attributes:
        name: of the kernel, or of torch's operator.
        work: its operands and operations.
        stream: that it is on.
        callers: functions that led to it, innermost first, as in ``package.module:function``.
        described: false where nobody has said what it reads and writes: every operand, then.
    """

    name: str
    work: Work
    stream: int
    callers: tuple[str, ...]
    described: bool = True


@dataclass(frozen=True)
class Wait:
    """A stream that from here on waits for all that another has been given so far."""

    stream: int
    other: int


@dataclass
class Trace:
    """All that a program gave a GPU, in order; and how often it waited for it."""

    events: list[Kernel | Wait] = field(default_factory=list)
    host_waits: list[str] = field(default_factory=list)

    @property
    def kernels(self) -> list[Kernel]:
        """The launches alone."""
        return [event for event in self.events if isinstance(event, Kernel)]


class TracedStream:
    """Stands for a `torch.cuda.Stream`."""

    def __init__(self, streams: "Streams", number: int) -> None:
        self._streams, self.number = streams, number

    def wait_stream(self, other: "TracedStream") -> None:
        """Note that what follows on this stream waits for what is on `other`."""
        self._streams.trace.events.append(Wait(self.number, other.number))


class Streams:
    """Stands for `torch.cuda` where streams are asked for."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._made = [TracedStream(self, MAIN)]
        self._current = self._made[MAIN]

    def Stream(self, device: torch.device | None = None) -> TracedStream:  # noqa: N802
        """Make a stream."""
        del device
        self._made.append(TracedStream(self, len(self._made)))
        return self._made[-1]

    def current_stream(self, device: torch.device | None = None) -> TracedStream:
        """Return the current stream."""
        del device
        return self._current

    @contextmanager
    def stream(self, stream: TracedStream) -> Iterator[None]:
        """Make `stream` the current one within."""
        before, self._current = self._current, stream
        try:
            yield
        finally:
            self._current = before


class Tracer(TorchDispatchMode):
    """Notes every kernel launched within, into `trace`."""

    def __init__(self) -> None:
        super().__init__()
        self.trace = Trace()
        self.streams = Streams(self.trace)

    def restart(self) -> Trace:
        """Return what was noted, and begin anew."""
        done = Trace(list(self.trace.events), list(self.trace.host_waits))
        self.trace.events.clear()
        self.trace.host_waits.clear()
        return done

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the kernels of one operator."""
        del types
        kwargs = kwargs or {}
        if function := FUNCTIONS.get(func._schema.name):  # noqa: SLF001
            with self:
                return function(*args, **kwargs)
        if aten.waits_for_host(func, args, kwargs):
            self.trace.host_waits.append(str(func))
        if func is torch.ops.aten._local_scalar_dense.default:  # noqa: SLF001
            return 0  # a fake tensor has no number
        result = aten.result_of(func, args, kwargs)
        for name, work in aten.kernels_of(func, args, kwargs, result):
            self.note(name, work)
        return result

    def note_launch(self, launch: Launch) -> None:
        """Note one of stylekernels' launches."""
        if describe := WORK.get(launch.name):
            self.note(launch.name, describe(launch))
            return
        operands = tuple(x for x in launch.arguments.values() if isinstance(x, Tensor))
        distinct = tuple({id(x): x for x in operands}.values())
        self.note(launch.name, Work(distinct, distinct), described=False)

    def note(self, name: str, work: Work, *, described: bool = True) -> None:
        """Note one kernel; see `Kernel`."""
        stream = self.streams.current_stream().number
        self.trace.events.append(Kernel(name, work, stream, _callers(), described))


@contextmanager
def tracing(gpu: Gpu, tracer: Tracer | None = None) -> Iterator[Tracer]:
    """Trace what runs within on tensors that are made within, as if on `gpu`."""
    tracer = tracer or Tracer()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(FakeTensorMode())
        stack.enter_context(assuming(gpu))
        stack.enter_context(diverted(tracer.note_launch))
        stack.enter_context(tracer)
        yield tracer


def _callers() -> tuple[str, ...]:
    """Return the functions of both packages that are running, innermost first."""
    names = []
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("style") and not module.startswith("stylekernels.model"):
            names.append(f"{module}:{frame.f_code.co_name}")
        frame = frame.f_back
    return tuple(names)

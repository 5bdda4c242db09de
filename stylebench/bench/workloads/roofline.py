"""The machine's roofline: its rate at a copy, a product, and the network's convolutions alone.

Measured in the run, on random data: zeros cost a GPU less power, and so come back faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from stylebench.bench.measure.graphs import captured
from stylebench.bench.measure.timing import Candidate, Plan, measure
from stylebench.bench.records.record import Roof, Timing
from stylebench.bench.workloads.precisions import product_arithmetic
from stylebench.engines.fused.convolution import Convolution
from stylebench.engines.fused.tiling import convolved, row_source, row_tiles
from stylebench.model.precision import PRECISIONS, arithmetic
from stylebench.model.vgg import LAYERS, Weights
from stylekernels.ops.conv.op import Workspace

_COPY_BYTES = {"cuda": 2**30, "cpu": 2**28}  # several times the last level of cache
_SQUARES = {"cuda": (4096, 8192), "cpu": (1024, 2048)}
_QUICK_COPY_BYTES, _QUICK_SQUARES = 2**26, (512,)


@dataclass
class Roofline:
    """Roofline of one device, each measured when it is first asked for.

    Attributes:
        device: where.
        plan: how long to measure each.
        quick: smaller operands.
        known: those there are.
    """

    device: torch.device
    plan: Plan
    quick: bool = False
    known: list[Roof] = field(default_factory=list)

    def copy(self) -> Roof:
        """Bytes a second of a long copy, reads and writes both counted."""
        if known := self._known("copy"):
            return known
        count = _QUICK_COPY_BYTES if self.quick else _COPY_BYTES.get(self.device.type, 2**28)
        source = torch.randint(0, 256, (count,), dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        copy = Candidate.repeating(lambda: target.copy_(source))
        timing = measure(copy, self.device, self.plan)
        return self._add(Roof("copy", None, None, None, 2 * count / timing.median, "B/s", timing))

    def matmul(self, precision: str) -> Roof:
        """FLOP/s of the best of a few large products at ``precision``."""
        if known := self._known("matmul", precision):
            return known
        roofs: list[Roof] = []
        for side in _QUICK_SQUARES if self.quick else _SQUARES.get(self.device.type, (2048,)):
            a, b = torch.randn(2, side, side, device=self.device).to(PRECISIONS[precision].dtype)
            for product in _products(a, b):
                with product_arithmetic(precision), torch.no_grad():
                    timing = measure(Candidate.repeating(product), self.device, self.plan)
                rate = 2 * side**3 / timing.median
                roofs.append(Roof("matmul", precision, None, None, rate, "FLOP/s", timing))
        return self._add(max(roofs, key=lambda roof: roof.value))

    def convolutions(self, precision: str, size: tuple[int, int]) -> Roof | None:
        """Seconds of one iteration's convolutions alone; None before ``settle``.

        ``size`` is (height, width).
        """
        return self._known("convolutions", precision, size)

    def candidates(
        self, precision: str, size: tuple[int, int], network: ConvStack
    ) -> dict[str, Candidate]:
        """Candidates for ``convolutions``, timed beside the iterations: drift hits all alike.

        The engines' own convolutions and plain channels-last ones: the faster are the roof. Empty
        where it is known already.
        """
        if self.convolutions(precision, size):
            return {}
        return {
            _label(kind, precision): _Chain(network, size, precision, self.device, kind).candidate()
            for kind in _KINDS
        }

    def settle(self, precision: str, size: tuple[int, int], timings: Mapping[str, Timing]) -> None:
        """Take the roof from ``timings``, which those ``candidates`` were part of."""
        names = [_label(kind, precision) for kind in _KINDS]
        measured = [timings[name] for name in names if name in timings]
        if measured:
            height, width = size
            best = min(measured, key=lambda timing: timing.median)
            self._add(Roof("convolutions", precision, width, height, best.median, "s", best))

    def _known(
        self, what: str, precision: str | None = None, size: tuple[int, int] | None = None
    ) -> Roof | None:
        height, width = size or (None, None)
        wanted = (what, precision, width, height)
        return next(
            (r for r in self.known if (r.what, r.precision, r.width, r.height) == wanted), None
        )

    def _add(self, roof: Roof) -> Roof:
        self.known.append(roof)
        return roof


def _products(a: Tensor, b: Tensor) -> Iterator[Callable[[], Tensor]]:
    """Ways to multiply two square matrices, a multiple of 32 wide.

    On a CPU a 1 x 1 convolution too, which is oneDNN's product: that of MKL keeps to narrow vectors
    on other makers' processors, and convolutions would be faster than they can be.
    """
    yield partial(torch.matmul, a, b)
    if a.device.type == "cpu":
        memory = torch.channels_last
        x = a.T.reshape(1, len(a), -1, 32).contiguous(memory_format=memory)
        yield partial(F.conv2d, x, b.T[:, :, None, None].contiguous(memory_format=memory))


_KINDS = ("prepared", "plain")
_label = "{} convolutions {}".format


@dataclass(frozen=True)
class ConvStack:
    """The convolutions of a network down to its deepest layer.

    Attributes:
        weights: of VGG-19.
        until: the deepest layer.
    """

    weights: Weights
    until: str

    def convolutions(self) -> Iterator[tuple[str, int]]:
        """Name of each convolution, and the factor by which its map is smaller than the image."""
        shrunk = 1
        for name in LAYERS:
            if name.startswith("conv"):
                yield name, shrunk
            elif name.startswith("pool"):
                shrunk *= 2
            if name == self.until:
                return

    def flops(self, size: tuple[int, int]) -> float:
        """FLOP of a forward pass and the gradient of the image, two a multiply-add."""
        height, width = size
        return sum(
            self.flops_of([name], (height // shrunk) * (width // shrunk))
            for name, shrunk in self.convolutions()
        )

    @staticmethod
    def flops_of(layers: Iterable[str], positions: int) -> float:
        """FLOP of the convolutions among ``layers`` at so many positions, likewise."""
        convolutions = [name for name in layers if name.startswith("conv")]
        return sum(2 * 2 * 9 * LAYERS[n][0] * LAYERS[n][1] * positions for n in convolutions)


class _Chain:
    """Every convolution forward, then back to its input, in the network's order.

    Without biases, which PyTorch adds on CUDA in a pass of its own over each map.
    """

    def __init__(
        self,
        network: ConvStack,
        size: tuple[int, int],
        precision: str,
        device: torch.device,
        kind: str,
    ) -> None:
        self._device = device
        self._graph: torch.cuda.CUDAGraph | None = None
        self._precision = PRECISIONS[precision]
        workspace = Workspace() if self._precision.winograd else None
        make = partial(_prepared, workspace) if kind == "prepared" else _plain
        dtype = self._precision.dtype
        self._steps: list[tuple[Callable[[Tensor], object], Tensor]] = []
        back: list[tuple[Callable[[Tensor], object], Tensor]] = []
        operands: dict[tuple[int, ...], Tensor] = {}

        def operand(channels: int, shrunk: int) -> Tensor:
            shape = (1, channels, size[0] // shrunk, size[1] // shrunk)
            if shape not in operands:
                drawn = torch.randn(shape, device=device).to(dtype)
                operands[shape] = drawn.contiguous(memory_format=torch.channels_last)
            return operands[shape]

        for name, shrunk in network.convolutions():
            weight = network.weights.layers[name][0].to(device, dtype)
            x, gradient = (operand(channels, shrunk) for channels in LAYERS[name])
            forward, backward = make(weight, x)
            self._steps.append((forward, x))
            back.append((backward, gradient))
        self._steps += reversed(back)

    def candidate(self) -> Candidate:
        """Iterations of it; on CUDA as one captured graph, like those of the engines.

        Launched one by one, its convolutions would wait for the host, which engines do not.
        """
        if self._device.type == "cuda":
            self._graph = captured(self.iterate, self._device)
        return Candidate.repeating(self._launch, replays=self._graph is not None)

    def _launch(self) -> None:
        if self._graph is not None:
            self._graph.replay()  # of operands that this object keeps
        else:
            self.iterate()

    def iterate(self) -> None:
        """Launch one iteration's convolutions."""
        with arithmetic(self._precision), torch.no_grad():
            for convolve, operand in self._steps:
                convolve(operand)


_Pair = tuple[Callable[[Tensor], object], Callable[[Tensor], object]]


def _prepared(workspace: Workspace | None, weight: Tensor, x: Tensor) -> _Pair:
    """The fused engine's convolution, tile by tile of rows."""
    height, width = x.shape[2:]
    convolution = Convolution(weight, None, (height, width), workspace)

    def forward(operand: Tensor) -> None:
        for start, stop in row_tiles(height, width, convolution.outputs, operand):
            convolved(convolution, row_source(operand), start, stop, height)

    def backward(gradient: Tensor) -> None:
        for start, stop in row_tiles(height, width, convolution.inputs, gradient):
            convolved(convolution.backward, row_source(gradient), start, stop, height)

    return forward, backward


def _plain(weight: Tensor, x: Tensor) -> _Pair:
    """A PyTorch user's convolution, channels-last."""
    weight = weight.contiguous(memory_format=torch.channels_last)
    ones, none = [1, 1], [0, 0]

    def forward(operand: Tensor) -> Tensor:
        return F.conv2d(operand, weight, None, padding=1)

    def backward(gradient: Tensor) -> Tensor:
        mask = [True, False, False]
        back = torch.ops.aten.convolution_backward
        return back(gradient, x, weight, None, ones, ones, ones, False, none, 1, mask)[0]

    return forward, backward

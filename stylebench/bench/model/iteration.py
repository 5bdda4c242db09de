"""One iteration of the fused engine, traced on fake CUDA tensors: real code, no GPU, no numbers.

Three things that need numbers or a clock have stand-ins: the exponents of fp16, which are the same
for all channels here; the choice of a convolution's algorithm, which is the one of the least
modelled time; and the tensors that it is made by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType

import torch
from torch import Tensor

from stylebench.engines.fp16_scaling import Rescaling
from stylebench.engines.fused import convolution
from stylebench.engines.fused import engine as fused
from stylebench.engines.fused.side import SideStream
from stylebench.engines.tiled import engine as tiled
from stylebench.model.precision import PRECISIONS, Precision
from stylebench.model.vgg import CAFFE, LAYERS, VGG19, Weights, smallest_side
from stylebench.optim.base import DeviceOptimizer
from stylebench.transfer.device import choose_history
from stylebench.transfer.optimizer import make_optimizer
from stylebench.transfer.problem import Problem
from stylebench.transfer.settings import Settings
from stylebench.transfer.stepper import GraphStepper
from stylekernels.model.gpus import GAP, DataSheet
from stylekernels.model.tracer import Trace, Tracer, tracing

LARGEST_SIDE = 2**14  # px
_SCALED = Rescaling(image=2, loss=8)  # of any image, neither is 0


def trace_iteration(sheet: DataSheet, size: tuple[int, int], settings: Settings) -> Trace:
    """The kernels of one iteration: engine, optimizer and log, after the first.

    Args:
        sheet: of the GPU whose launch configurations are taken.
        size: (height, width) of the image, px.
        settings: its preset, precision, optimizer and history decide.

    Raises:
        ValueError: the optimizer is one that waits for the host, or the image is too small or
            too large.
    """
    least = smallest_side(settings.resolved_preset().deepest_layer)
    if not least <= min(size) <= max(size) <= LARGEST_SIDE:
        raise ValueError(f"size is {size[1]} x {size[0]} px: expected {least} to {LARGEST_SIDE}")
    with tracing(sheet.gpu) as tracer, stand_ins(tracer, sheet):
        stepper = stepper_of(size, settings, tracer)
        stepper.advance(1)  # what is allocated once
        tracer.restart()
        stepper.advance(1)
        return tracer.restart()


def stepper_of(size: tuple[int, int], settings: Settings, tracer: Tracer) -> GraphStepper:
    """The stepper of a run, on fake tensors; to be made within ``tracing`` and ``stand_ins``."""
    image = torch.empty(1, 3, *size, device="cuda")
    preset = settings.resolved_preset()
    network = VGG19(weights_without_numbers(), preset.deepest_layer, preset.pooling)
    objective, precision = preset.objective(*size), PRECISIONS[settings.precision]
    engine = fused.Fused(network, objective, image, [image], [1.0], precision)
    engine.side = SideStream(image.device, tracer.streams)
    history = choose_history(settings, size[0] * size[1])
    chosen = {"optimizer": settings.optimizer, "history": history}
    problem = Problem(engine, image, CAFFE, None, preset, chosen)
    optimizer = make_optimizer(settings, problem, image)
    if not isinstance(optimizer, DeviceOptimizer):
        raise ValueError(  # noqa: TRY004
            f"optimizer {settings.optimizer!r} waits for the host: expected lbfgs or adam"
        )
    return GraphStepper(engine, optimizer, image, capture=False)


def weights_without_numbers() -> Weights:
    """VGG-19's, as CUDA tensors; to be made within ``tracing``."""
    layers = {
        name: (
            torch.empty(outputs, inputs, 3, 3, device="cuda"),
            torch.empty(outputs, device="cuda"),
        )
        for name, (inputs, outputs) in LAYERS.items()
        if name.startswith("conv")
    }
    return Weights("none", layers, CAFFE)


@contextmanager
def stand_ins(tracer: Tracer, sheet: DataSheet) -> Iterator[None]:
    """Replace what needs numbers or a clock."""
    with ExitStack() as stack:
        for module, name, stand_in in (
            (fused, "rescale_in_place", _rescaled),
            (tiled, "rescale_in_place", _rescaled),
            (convolution, "select_fastest", partial(_least_modelled, tracer, sheet)),
            (convolution, "_sample", _sample),
        ):
            stack.enter_context(_replaced(module, name, stand_in))
        yield


@contextmanager
def _replaced(module: ModuleType, name: str, stand_in: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, stand_in)
    try:
        yield
    finally:
        setattr(module, name, before)


def _rescaled(*operands: object, **_options: object) -> Rescaling:
    (precision,) = (value for value in operands if isinstance(value, Precision))
    return _SCALED if precision.rescaled else Rescaling()


def _sample(channels: int, like: Tensor, size: tuple[int, int]) -> Tensor:
    memory = torch.channels_last
    return like.new_empty(1, channels, *size).contiguous(memory_format=memory)


def _least_modelled(
    tracer: Tracer,
    sheet: DataSheet,
    algorithms: Mapping[str, Callable[[Tensor], Tensor]],
    exact: object,
    x: Tensor,
) -> str:
    """The name of the algorithm of the least modelled time; of equals the first."""
    del exact

    def seconds(name: str) -> float:
        tracer.restart()
        algorithms[name](x)
        return sum(GAP + sheet.seconds(kernel.work) for kernel in tracer.restart().kernels)

    return min(algorithms, key=seconds)

"""cuDNN's graphs: a convolution and what follows it in one kernel.

PyTorch's own fused convolution also reads an addend that is multiplied by 0, and its gradient knows
no mask. Graphs leave both out, and name the plan that computes them, so that a kept choice needs no
search. They need the package ``nvidia-cudnn-frontend``, which is optional. They are candidates as
others are: each is proven before it counts, and one that fails in whatever way is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

_MOST_PLANS = 6  # the first of cuDNN's own ranking; more would cost more time than they win
_ONES = [1, 1]
_TYPES = {torch.float16: "HALF", torch.bfloat16: "BFLOAT16", torch.float32: "FLOAT"}

Describe = Callable[[Any, list[Any], tuple[int, ...]], Any]  # graph, inputs, shape -> output


def graph_forward(weight: Tensor, bias: Tensor) -> Graphs:
    """Convolution, bias and ReLU of x [B, N_in, H, W].

    Args:
        weight: [N_out, N_in, 3, 3], channels-last.
        bias: [N_out].
    """

    def describe(graph: Any, inputs: list[Any], _: tuple[int, ...]) -> Any:
        x, kernels, of_channel = inputs
        y = graph.conv_fprop(image=x, weight=kernels, padding=_ONES, stride=_ONES, dilation=_ONES)
        return graph.relu(input=graph.bias(input=y, bias=of_channel))

    channels_last = bias.view(1, -1, 1, 1).contiguous(memory_format=torch.channels_last)
    return Graphs("conv+bias+relu", describe, weight.shape[0], (weight, channels_last))


def graph_masked_gradient(weight: Tensor) -> Graphs:
    """Gradient [B, N_out, H, W] of the output -> of the input, 0 where a ReLU was off.

    Args:
        weight: [N_out, N_in, 3, 3], channels-last.
    """

    def describe(graph: Any, inputs: list[Any], shape: tuple[int, ...]) -> Any:
        gradient, mask, kernels = inputs
        x = graph.conv_dgrad(
            loss=gradient, filter=kernels, padding=_ONES, stride=_ONES, dilation=_ONES
        )
        _lay_out(x, shape)
        return graph.relu_backward(loss=x, input=mask)

    return Graphs("dgrad+drelu", describe, weight.shape[1], (weight,))


class Graphs:
    """A graph for every shape that it is called with, and its plans.

    Args:
        kind: its name in choices.
        describe: writes the graph.
        channels: of the output.
        constants: the last operands, the same in every call.
    """

    def __init__(
        self, kind: str, describe: Describe, channels: int, constants: tuple[Tensor, ...]
    ) -> None:
        self._kind, self._describe = kind, describe
        self._channels, self._constants = channels, constants
        self._planned: dict[tuple[torch.Size, ...], _Planned | None] = {}

    def plans(
        self, otherwise: Callable[..., Tensor], *operands: Tensor
    ) -> dict[str, Callable[..., Tensor]]:
        """Name -> algorithm, of the plans that cuDNN has for such operands; none where it fails.

        Args:
            otherwise: computes operands of other shapes, where a plan fails that ran for these.
            operands: of the shapes that algorithms are chosen for.
        """
        if not has_graphs() or operands[0].dtype not in _TYPES:
            return {}
        planned = self._for(operands)
        names = planned.names[:_MOST_PLANS] if planned else []
        return {
            f"cudnn graph {self._kind}, {name}": self._algorithm(name, otherwise, _shapes(operands))
            for name in names
        }

    def _algorithm(
        self, name: str, otherwise: Callable[..., Tensor], proven: tuple[torch.Size, ...]
    ) -> Callable[..., Tensor]:
        def run(*operands: Tensor) -> Tensor:
            planned = self._for(operands)
            if planned is None or name not in planned.names:
                return otherwise(*operands)
            try:
                return planned.run(name, (*operands, *self._constants))
            except Exception:
                if _shapes(operands) == proven:
                    raise
                self._planned[_shapes(operands)] = None
                return otherwise(*operands)

        return run

    def _for(self, operands: tuple[Tensor, ...]) -> _Planned | None:
        shapes = _shapes(operands)
        if shapes not in self._planned:
            batch, _, height, width = shapes[0]
            shape = (batch, self._channels, height, width)
            try:
                planned = _Planned(self._describe, (*operands, *self._constants), shape)
            except Exception as fault:  # of a type of its own
                said = f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}"
                _log.info("cuDNN has no graph %s of %s: %s", self._kind, list(shapes[0]), said)
                planned = None
            self._planned[shapes] = planned
        return self._planned[shapes]


class _Planned:
    """One graph with cuDNN's plans for it, which are built when they are first run."""

    def __init__(
        self, describe: Describe, operands: tuple[Tensor, ...], shape: tuple[int, ...]
    ) -> None:
        cudnn = import_module("cudnn")
        first = operands[0]
        kind = getattr(cudnn.data_type, _TYPES[first.dtype])
        self._shape, self._handle = shape, _handle(first.device)
        self._graph = graph = cudnn.pygraph(
            io_data_type=kind,
            intermediate_data_type=cudnn.data_type.FLOAT,
            compute_data_type=cudnn.data_type.FLOAT,
            handle=self._handle,
        )
        self._inputs = [
            graph.tensor(
                name=f"operand {i}", dim=list(x.shape), stride=_strides(x.shape), data_type=kind
            )
            for i, x in enumerate(operands)
        ]
        self._output = describe(graph, self._inputs, shape)
        self._output.set_output(True).set_data_type(kind)
        _lay_out(self._output, shape)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A])
        graph.deselect_numeric_notes([cudnn.numerical_note.NONDETERMINISTIC])
        count = graph.get_execution_plan_count()
        self.names = [str(graph.get_plan_name_at_index(i)) for i in range(count)]
        self._bytes: dict[int, int] = {}  # plan -> of its workspace

    def run(self, name: str, operands: tuple[Tensor, ...]) -> Tensor:
        """The output, [B, C, H, W], channels-last."""
        cudnn, first = import_module("cudnn"), operands[0]
        index = self.names.index(name)
        if index not in self._bytes:
            self._graph.build_plan_at_index(index)
            self._bytes[index] = self._graph.get_workspace_size_plan_at_index(index)
        batch, channels, height, width = self._shape
        y = first.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)
        memory = first.new_empty(max(1, self._bytes[index]), dtype=torch.uint8)
        operands = tuple(x.contiguous(memory_format=torch.channels_last) for x in operands)
        tensors = dict(zip([*self._inputs, self._output], [*operands, y], strict=True))
        cudnn.set_stream(handle=self._handle, stream=_stream(first.device))
        self._graph.execute_plan_at_index(tensors, memory, index, handle=self._handle)
        return y


def has_graphs() -> bool:
    """Whether the package is installed."""
    return find_spec("cudnn") is not None


def _stream(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream


@cache
def _handle(device: torch.device) -> Any:
    with torch.cuda.device(device):
        return import_module("cudnn").create_handle()


def _lay_out(tensor: Any, shape: tuple[int, ...]) -> None:
    """Have a graph's tensor [B, C, H, W] channels-last."""
    tensor.set_dim(list(shape)).set_stride(_strides(shape))


def _strides(shape: tuple[int, ...]) -> list[int]:
    """Of a dense channels-last tensor [B, C, H, W]."""
    _, channels, height, width = shape
    return [channels * height * width, 1, channels * width, channels]


def _shapes(operands: tuple[Tensor, ...]) -> tuple[torch.Size, ...]:
    return tuple(operand.shape for operand in operands)

"""The kernels of torch's own operators on CUDA, and their work."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from stylekernels.runtime.work import Arithmetic, Work, arithmetic_of

_ATEN = torch.ops.aten
_TRANSFORMS = ("_fft_r2c", "_fft_c2r")
_CONVOLUTION = _ATEN.convolution.default
_CONVOLUTION_RELU = _ATEN.cudnn_convolution_relu.default
_ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_FILLS = {"zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones"}
_FILLS |= {"full", "full_like", "new_full", "scalar_tensor", "arange"}
_OVERWRITES = {"copy_", "fill_", "zero_"}
_FREE = {"lift_fresh", "_unsafe_view", "_local_scalar_dense"} | _ALLOCATIONS


def result_of(func: Any, args: Any, kwargs: Any) -> Any:
    """Return an operator's result on fake tensors, also where torch has no fake of the operator.

    cuDNN's are channels-last as its inputs are; of bf16 torch's fakes are not, without a GPU.
    """
    if func is _CONVOLUTION_RELU:
        x, weight, bias, stride, padding, dilation, groups = args
        args = x, weight, bias, stride, padding, dilation, False, [0, 0], groups
        func = _CONVOLUTION
    result = func(*args, **kwargs)
    if func is _CONVOLUTION and args[0].is_contiguous(memory_format=torch.channels_last):
        return torch.empty_like(result, memory_format=torch.channels_last)
    return result


def kernels_of(func: Any, args: Any, kwargs: Any, result: Any) -> Iterator[tuple[str, Work]]:
    """Yield name and work of each kernel that an operator launches; views launch none."""
    name = func._schema.name.removeprefix("aten::")  # noqa: SLF001
    if name in _FREE or func.namespace == "prim":
        return
    if name in ("convolution", "cudnn_convolution_relu"):
        yield from _convolution(name, func, args, result)
        return
    reads, writes = _operands(name, func, args, kwargs)
    if all(value.alias_info is None for value in func._schema.returns):  # noqa: SLF001
        writes += _on_cuda(result)
    if not writes:  # the result is a view
        return
    formula = flop_registry.get(func.overloadpacket)
    flops = formula(*args, **kwargs, out_val=result) if formula else 0
    tf32 = _has_tf32(torch.backends.cuda.matmul)
    if name == "_fft_c2r":  # it may overwrite its input: torch gives it a copy
        yield "clone", Work(tuple(reads), tuple(reads))
    yield name, Work(tuple(reads), tuple(writes), flops, arithmetic_of(writes[0].dtype, tf32))
    if name in _TRANSFORMS and args[2]:  # a factor, in a pass of its own
        yield "mul_", Work(tuple(writes), tuple(writes))


def waits_for_host(func: Any, args: Any, kwargs: Any) -> bool:
    """Say whether the host waits for the device in an operator: it reads or sends numbers."""
    if func is _ATEN._local_scalar_dense.default:  # noqa: SLF001
        return bool(_on_cuda(args))
    if func is _ATEN._to_copy.default:  # noqa: SLF001
        target = kwargs.get("device")
        return target is not None and torch.device(target).type != args[0].device.type
    return func is _ATEN.copy_.default and args[0].is_cuda != args[1].is_cuda


def _convolution(name: str, func: Any, args: Any, y: Tensor) -> Iterator[tuple[str, Work]]:
    x, weight, bias, *_ = args
    if not x.is_cuda:
        return
    full = (*args[:6], False, [0, 0], args[6]) if func is _CONVOLUTION_RELU else args
    count: Callable[..., int] = flop_registry[_ATEN.convolution]
    reads: tuple[Tensor, ...] = (x, weight)
    if func is _CONVOLUTION_RELU:
        reads, bias = (x, weight, bias), None
    arithmetic: Arithmetic = arithmetic_of(x.dtype, _has_tf32(torch.backends.cudnn.conv))  # type: ignore[attr-defined]
    yield name, Work(reads, (y,), count(*full, out_val=y), arithmetic)
    if bias is not None:  # torch adds it in a pass of its own
        yield "add_", Work((y, bias), (y,))


def _operands(name: str, func: Any, args: Any, kwargs: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors on CUDA that an operator reads, and those given to it that it writes."""
    reads: list[Tensor] = []
    writes: list[Tensor] = []
    for i, argument in enumerate(func._schema.arguments):  # noqa: SLF001
        value = args[i] if i < len(args) else kwargs.get(argument.name)
        found = _on_cuda(value)
        written = argument.alias_info is not None and argument.alias_info.is_write
        if name == "index_copy_" and written:  # as much of it as is copied
            writes += [x.narrow(args[1], 0, args[3].shape[args[1]]) for x in found]
            continue
        if written:
            writes += found
        if not (written and (argument.kwarg_only or name in _OVERWRITES)) and name not in _FILLS:
            reads += found
    return reads, writes


def _on_cuda(value: Any) -> list[Tensor]:
    return [x for x in tree_leaves(value) if isinstance(x, Tensor) and x.is_cuda]


def _has_tf32(switch: Any) -> bool:
    return switch.fp32_precision == "tf32"

"""The choice of the fastest algorithm for a convolution on CUDA.

Every layer is measured once, and an algorithm's result is checked against fp64 before its time
counts.

The choice is kept (``choices``), so that a layer is computed to the same bits and the next start is
quicker: it searches cuDNN's plans for the chosen algorithm alone, and checks that once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from math import inf, nan
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

import stylekernels as sk
from stylebench.engines.fused.choices import choose_once
from stylebench.engines.fused.conv_algorithms import ConvAlgorithm
from stylebench.model.precision import in_fp64
from stylekernels.native.sources import sources_hash

_CROP = 64  # px, the side of what is checked against fp64
_GROSS = 4e-3  # relative, in fp32: beyond it all of a map is not one convolution's
_CALLS, _ROUNDS = 10, 3
_HEAD_STARTS = (2_000_000, 20_000_000)  # cycles: 1 ms and 10 ms, for hosts that launch slowly


def select_fastest(
    algorithms: Mapping[str, ConvAlgorithm],
    exact: ConvAlgorithm,
    x: Tensor,
    seconds: Callable[[ConvAlgorithm, Tensor], float] | None = None,
) -> str:
    """The name of the fastest algorithm for ``x`` among those that are right.

    Where none is right, it is the one that errs least: what is measured of it says so.

    A layer is measured once a machine. Layers are told apart by dtype, precision of fp32 products,
    shapes of input and output, and names of the algorithms.

    Args:
        algorithms: name -> algorithm; plain PyTorch first.
        exact: the same in fp64, of which only a corner of the map is asked.
        x: random input of the layer [B, N_in, H, W].
        seconds: times one algorithm; with CUDA events by default.
    """
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        part = _corner(x, _CROP + 1)
        corner = _corner(exact(part), _CROP)
        lost = _corner(exact(torch.full_like(part, nan)), _CROP).isnan()
        shapes = f"{list(x.shape)} to {list(corner.shape)}"
        layer = f"{x.dtype} in {_products()}, {shapes}, of {', '.join(algorithms)}"

        def measure() -> str:
            with _searching():
                return _fastest(algorithms, corner, lost, x, seconds or _device_seconds)

        def holds(name: str) -> bool:
            with _searching():
                if name not in algorithms:
                    return False
                return _error(algorithms[name], x, corner, lost) <= _allowed(x)

        return choose_once(_machine(x.device), layer, measure, holds)


def _machine(device: torch.device) -> str:
    """Name of the GPU, versions and hash of the code that a measurement holds for."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"{name}, torch {torch.__version__}, cuDNN {cudnn}, code {_sources()}"


@cache
def _sources() -> str:
    """Hash of the kernels and of the algorithms here, which are all asked for the same bits."""
    return sources_hash([Path(sk.__file__).parent, Path(__file__).parent])[:8]


def _fastest(
    algorithms: Mapping[str, ConvAlgorithm],
    corner: Tensor,
    lost: Tensor,
    x: Tensor,
    seconds: Callable[[ConvAlgorithm, Tensor], float],
) -> str:
    plain, *_ = algorithms.values()
    expected = plain(x)
    errors = {name: _error(algorithms[name], x, corner, lost, expected) for name in algorithms}
    right = [name for name, error in errors.items() if error <= _allowed(x)]
    if not right:
        return min(errors, key=lambda name: errors[name])
    return min(right, key=lambda name: seconds(algorithms[name], x))


def _products() -> str:
    """The precision that fp32 convolutions multiply in."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    return convolutions.fp32_precision


def _allowed(x: Tensor) -> float:
    """The largest relative error that a convolution of ``x`` [B, N_in, H, W] is right with.

    In fp32 it is twice that of adding 9 N_in products in order, which Winograd's way in tiles of 4
    is beyond. In half precision the rounding of the result is all.
    """
    if x.dtype == torch.float32 and _products() == "tf32":
        return 4e-3
    eps = torch.finfo(x.dtype).eps
    if x.dtype in (torch.float32, torch.float64):
        return eps * max(4.0, 0.3 * (9 * x.shape[1]) ** 0.5)
    return 4 * eps


def _error(
    algorithm: ConvAlgorithm,
    x: Tensor,
    corner: Tensor,
    lost: Tensor,
    expected: Tensor | None = None,
) -> float:
    """The relative error of ``algorithm`` in the corner; infinite if it cannot be used.

    It has to write every element, give the same bits again, let NaN through, and be close to
    ``expected`` everywhere, if that is known. A run learns from NaN that fp16 overflowed: a ReLU
    that turns NaN into 0 would hide it. ``lost`` is where NaN alone gives NaN in the corner, which
    is everywhere but behind a mask.
    """
    try:
        first = algorithm(x)  # cuDNN's search, which leaves other plans' results in the memory
        _poison(first)
        result = algorithm(x)
        nans = algorithm(torch.full_like(x, nan)).isnan()
    except Exception:  # this build or GPU does not have it; the exception's type is anyone's choice
        return inf
    fits = _corner(result, _CROP).shape == corner.shape
    if not fits or not result.isfinite().all() or not result.equal(first):
        return inf
    if not _corner(nans, _CROP).equal(lost) or (lost.all() and not nans.all()):
        return inf
    if expected is not None and not _is_close(result, expected):
        return inf
    return _distance(in_fp64(_corner(result, _CROP)), corner)


def _is_close(result: Tensor, expected: Tensor) -> bool:
    """Whether two results may both be one convolution's."""
    gross = _GROSS if result.dtype == torch.float32 else 4 * torch.finfo(result.dtype).eps
    return result.shape == expected.shape and _distance(result, expected) <= gross


def _poison(like: Tensor) -> None:
    """Fill with NaN the memory that the next tensor will take whose storage is ``like``'s size."""
    count = like.untyped_storage().nbytes() // like.element_size()
    torch.full((count,), nan, dtype=like.dtype, device=like.device)


def _corner(x: Tensor, side: int) -> Tensor:
    """The last rows and columns [..., side, side], fewer where there are not so many."""
    return x[..., -side:, -side:]


def _distance(value: Tensor, expected: Tensor) -> float:
    """The norm of the difference, over that of ``expected``."""
    wide = torch.promote_types(value.dtype, torch.float32)
    difference = (value - expected).to(wide).norm()
    return float(difference / expected.to(wide).norm())


def _device_seconds(algorithm: ConvAlgorithm, x: Tensor) -> float:
    """Seconds on the device alone, as in a captured graph: the host's launches do not count."""
    algorithm(x)
    return median(_back_to_back(algorithm, x) for _ in range(_ROUNDS))


def _back_to_back(algorithm: ConvAlgorithm, x: Tensor) -> float:
    """Seconds of one call among several, all of them launched before the device starts."""
    for cycles in _HEAD_STARTS:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]  # noqa: SLF001
        start.record()
        for _ in range(_CALLS):
            algorithm(x)
        all_launched = not start.query()  # type: ignore[no-untyped-call]
        end.record()
        end.synchronize()
        if all_launched:
            break
    return start.elapsed_time(end) / 1e3 / _CALLS


@contextmanager
def _searching() -> Iterator[None]:
    """Let cuDNN time all its algorithms within; it remembers the fastest for each shape."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.benchmark_limit
    cudnn.benchmark, cudnn.benchmark_limit = True, 0  # 0 is no limit, 10 the usual one
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.benchmark_limit = before

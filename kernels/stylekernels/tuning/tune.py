"""Measure launch configurations on the GPU at hand and write configs/<gpu>.json.

    python -m stylekernels.tune [--size 512] [--dtype bfloat16] [--output FOLDER]

From the analytic default, one field at a time is varied and the fastest value kept, until a round
changes nothing. The launches timed are those of the fused engine's taps, and of the image's
gradient: both forward ones together, because the split that suits the first burdens the second. A
candidate that errs more than the default does, or fails in whatever way, is not timed. L2 is
flushed before every sample; medians are compared.

The candidates around a configuration are compiled beforehand, side by side: the GPU only measures.

Every kernel's row is written as soon as it is found, and rows that the file has, measured with the
same versions of torch and Triton, are not measured again.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch

from stylekernels.ops.dgrad import cpu as torch_dgrad
from stylekernels.ops.style import naive
from stylekernels.ops.style.cpu import narrowed
from stylekernels.ops.style.terms import Style
from stylekernels.runtime import config
from stylekernels.runtime.config import (
    BackwardConfig,
    Config,
    DgradConfig,
    FinishConfig,
    Gpu,
    GramConfig,
    TapDgradConfig,
    gpu_of,
)
from stylekernels.tuning.compilers import Compilers
from stylekernels.tuning.shapes import VGG

K = TypeVar("K", bound=Config)
Row = dict[str, Any]
_SMALLEST = max(factor for _, factor in VGG)
_AT_TAPS: tuple[type[Config], ...] = (GramConfig, FinishConfig, BackwardConfig)
CHOICES: dict[str, tuple[int, ...]] = {
    "block_m": (16, 32, 64, 128),
    "block_c": (32, 64, 128),
    "block_n": (32, 64, 128, 256),
    "block_k": (16, 32, 64, 128),
    "block_e": (64, 128, 256, 512, 1024),
    "block_s": (4, 8, 16, 32, 64),
    "block_w": (32, 64, 128),
    "rows": (2, 4, 8, 16, 32),
    "num_warps": (2, 4, 8),
    "num_stages": (1, 2, 3, 4, 5),
    "one_load": (False, True),
}


def tuned(channels: int, dtype: torch.dtype) -> tuple[type[Config], ...]:
    """Return the kinds of kernels of one layer: the first has the image's gradient too."""
    if channels != VGG[0][0]:
        return _AT_TAPS
    behind_tap = (TapDgradConfig,) if dtype.itemsize == 2 else ()
    return (*_AT_TAPS, DgradConfig, *behind_tap)


def neighbors(center: K, gpu: Gpu, channels: int) -> Iterator[K]:
    """Yield `center` with one field changed, field by field."""
    for field in fields(center):
        values: Iterable[int] = CHOICES.get(field.name, ())
        if field.name == "split":
            assert isinstance(center, GramConfig)
            tiles = math.comb(math.ceil(channels / center.block_c) + 1, 2)
            waves = (0.25, 0.5, 1, 2, 3, 4, 6, 8)
            values = sorted({max(1, round(w * gpu.multiprocessors / tiles)) for w in waves})
        if field.name == "programs":
            values = [w * gpu.multiprocessors for w in range(5)]
        for value in values:
            if value != getattr(center, field.name):
                yield replace(center, **{field.name: value})


def descend(
    start: K,
    around: Callable[[K], Iterable[K]],
    cost: Callable[[K], float],
    rounds: int = 3,
    usable: Callable[[list[K]], list[K]] = list,
) -> tuple[K, float]:
    """Walk to a configuration that no single change improves by 1 %.

    Args:
        start: where to begin; its cost must be finite.
        around: the candidates next to a configuration.
        cost: seconds, or infinity for what cannot be used. Called once a configuration.
        rounds: the most rounds to walk.
        usable: those of some candidates whose cost may be asked for, called before it is.

    Raises:
        RuntimeError: `start` itself cannot be used.
    """
    known = {start: cost(start)}
    best = start
    if not math.isfinite(known[start]):
        raise RuntimeError(f"the default configuration fails on this GPU: {start}")
    for _ in range(rounds):
        before = best
        near = list(around(best))
        unknown = [candidate for candidate in near if candidate not in known]
        known |= dict.fromkeys(unknown, math.inf)
        for candidate in usable(unknown):
            known[candidate] = cost(candidate)
            if known[candidate] < 0.99 * known[best]:
                best = candidate
        if best == before:
            break
    return best, known[best]


def _milliseconds(run: Callable[[], None]) -> float:
    from triton.testing import do_bench

    return float(do_bench(run, warmup=5, rep=30, return_mode="median"))


def _random(shape: tuple[int, ...], seed: int, device: torch.device) -> torch.Tensor:
    if device.type == "meta":  # which has no generator, and no numbers
        return torch.empty(shape, device=device)
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device)


class Shape:
    """One layer's operands on the GPU, its oracle, and the cost of configurations there."""

    def __init__(self, dtype: torch.dtype, channels: int, size: int, device: torch.device) -> None:
        shape = (1, channels, size, size)
        x, above = (
            _random(shape, seed, device).to(dtype).contiguous(memory_format=torch.channels_last)
            for seed in range(2)
        )
        self.x, self.above = x.relu_(), above
        self.gradient = torch.empty_like(self.x)
        self.target = torch.eye(channels, device=device)
        self.s = torch.empty((1, channels, channels), dtype=dtype, device=device)
        scale, loss = torch.empty(1, device=device), torch.empty((), device=device)
        self.style = Style(self.target, 1.0, loss, scale)
        self.channels, self.size, self.dtype = channels, size, dtype
        wide = self.x.double()
        _, self.exact_s = naive.style_loss_forward(wide, self.target, 1.0)
        self.slope, self.scale = narrowed(self.exact_s, dtype)  # not what candidates leave
        self.exact_gradient = naive.style_tap_backward(above.double(), wide, self.exact_s)
        self.allowed: dict[str, float] = {}

    def forward(self, gram: GramConfig, finish: FinishConfig) -> float:
        """Return the milliseconds of `style_loss_forward`."""
        from stylekernels.ops.style.triton_launches import forward_launches

        launches = forward_launches(self.x, self.s, self.style, config=gram, finish=finish)

        def error() -> float:
            return self._error(self.s * self.style.scale, self.exact_s)

        return self._cost("forward", launches, error)

    def backward(self, blocks: BackwardConfig) -> float:
        """Return the milliseconds of `style_tap_backward`."""
        from stylekernels.ops.style.triton_backward import backward_launches

        launches = backward_launches(
            self.x,
            self.slope,
            self.gradient,
            relu=True,
            scale=self.scale,
            incoming=self.above,
            config=blocks,
        )
        exact = self.exact_gradient
        return self._cost("backward", launches, lambda: self._error(self.gradient, exact))

    def dgrad(self, blocks: DgradConfig) -> float:
        """Return the milliseconds of `dgrad` behind this layer, the image's gradient."""
        from stylekernels.ops.dgrad.triton_dgrad import launches

        output = self.x.new_empty((1, 3, *self.x.shape[2:]), dtype=torch.float32)
        planned = launches(self.above, self.kernels, output, config=blocks)
        # as the engine multiplies fp32, whatever torch's own convolutions are set to here
        exactly = [replace(one, constants=one.constants | {"PRECISION": "ieee"}) for one in planned]
        return self._cost("dgrad", exactly, lambda: self._error(output, self.exact_image_gradient))

    def tap_dgrad(self, blocks: TapDgradConfig) -> float:
        """Return the milliseconds of `tap_dgrad` at this layer."""
        from stylekernels.ops.dgrad.triton_dgrad import StyleTap, launches

        output = self.x.new_empty((1, 3, *self.x.shape[2:]), dtype=torch.float32)
        tap = StyleTap(self.x, self.slope, self.scale)
        planned = launches(self.above, self.kernels, output, config=blocks, tap=tap)
        exact = self.exact_tapped_gradient
        return self._cost("tap_dgrad", planned, lambda: self._error(output, exact))

    @cached_property
    def kernels(self) -> torch.Tensor:
        """Weights [C, 3, 3, 3] of the layer's convolution."""
        return _random((self.channels, 3, 3, 3), 2, self.x.device).to(self.dtype)

    @cached_property
    def exact_image_gradient(self) -> torch.Tensor:
        """The image's gradient [1, 3, size, size] in fp64."""
        return self._of_image(self.above.double())

    @cached_property
    def exact_tapped_gradient(self) -> torch.Tensor:
        """The image's gradient behind the tap, likewise."""
        return self._of_image(self.exact_gradient)

    def _of_image(self, gradient: torch.Tensor) -> torch.Tensor:
        return torch_dgrad.dgrad(gradient, self.kernels.double(), 1.0, torch.float64)

    def _error(self, value: torch.Tensor, exact: torch.Tensor) -> float:
        error = (value.double() - exact).norm() / exact.norm()
        return float(error.nan_to_num(nan=math.inf))

    def _cost(self, name: str, launches: list[Any], error: Callable[[], float]) -> float:
        from stylekernels.runtime.launch import run_all

        try:
            run_all(launches)
            value = error()
            allowed = self.allowed.setdefault(name, 2 * value)
            if value > allowed or not math.isfinite(value):
                return math.inf
            return _milliseconds(lambda: run_all(launches))
        except Exception as fault:  # a compiler's or a driver's: Triton's are of types of its own
            _report("left out", fault)
            return math.inf


class _Compiled(Shape):
    """A layer on a GPU that this process does not use, whose candidates cost nothing to compile."""

    def _cost(self, name: str, launches: list[Any], error: Callable[[], float]) -> float:
        from stylekernels.tuning.aot import built

        del name, error
        for launch in launches:
            built(launch)
        return 0.0


@dataclass(frozen=True)
class Candidate:
    """Configurations of a layer's kernels that a process can be sent: dtype, channels, side, GPU.

    `blocks` are the arguments of a `Shape`'s method.
    """

    layer: tuple[torch.dtype, int, int]
    gpu: Gpu
    method: str
    blocks: tuple[Config, ...]


def compile_candidate(candidate: Candidate) -> None:
    """Compile the launches that a candidate is measured with, into Triton's cache."""
    from stylekernels.tuning.aot import compiling_for

    with compiling_for(candidate.gpu):
        layer = _Compiled(*candidate.layer, torch.device("meta"))
        getattr(layer, candidate.method)(*candidate.blocks)


def tune_shape(
    shape: Shape,
    gpu: Gpu,
    known: Mapping[str, Config],
    keep: Callable[[Row], object],
    faults: Callable[[list[Candidate]], list[str]] | None = None,
) -> bool:
    """Tune the kernels of one layer; return whether all of them could be.

    Args:
        shape: the layer.
        gpu: where.
        known: kernel -> its configuration, of those that are not tuned again.
        keep: called with every row when it is found: the default's and its own milliseconds.
        faults: compiles candidates and returns the fault of each, or nothing; by default the GPU
            waits for every one of them.
    """
    size = (shape.dtype, shape.channels, shape.size**2)
    best: dict[type[Config], Any] = {
        kind: known.get(kind.kernel) or kind.default(*size, gpu)
        for kind in tuned(shape.channels, shape.dtype)
    }
    measured: dict[type[Config], Callable[[Any], tuple[str, tuple[Config, ...]]]] = {
        GramConfig: lambda c: ("forward", (c, best[FinishConfig])),
        FinishConfig: lambda c: ("forward", (best[GramConfig], c)),
        BackwardConfig: lambda c: ("backward", (c,)),
        DgradConfig: lambda c: ("dgrad", (c,)),
        TapDgradConfig: lambda c: ("tap_dgrad", (c,)),
    }
    layer = (shape.dtype, shape.channels, shape.size)
    whole = True
    for kind in best:
        call = measured[kind]
        if kind.kernel in known:
            continue

        def cost(blocks: Any, call: Callable[[Any], Any] = call) -> float:
            method, arguments = call(blocks)
            return getattr(shape, method)(*arguments)

        def compiled(candidates: list[Any], call: Callable[[Any], Any] = call) -> list[Any]:
            if faults is None:
                return candidates
            found = faults([Candidate(layer, gpu, *call(blocks)) for blocks in candidates])
            for fault in filter(None, found):
                _report("left out", fault)
            return [blocks for blocks, fault in zip(candidates, found, strict=True) if not fault]

        try:
            default = cost(best[kind])
            around = partial(neighbors, gpu=gpu, channels=shape.channels)
            best[kind], milliseconds = descend(best[kind], around, cost, usable=compiled)
        except Exception as fault:  # costs this kernel alone
            _report(f"{kind.kernel} of C={shape.channels} not tuned", fault)
            whole = False
        else:
            keep(config.as_row(best[kind], *size) | {"default_ms": default, "ms": milliseconds})
    return whole


def _report(what: str, fault: Exception | str) -> None:
    said = fault if isinstance(fault, str) else f"{type(fault).__name__}: {fault}"
    sys.stderr.write(f"  {what}: {' '.join(said.split())[:120]}\n")


def _jobs() -> int:
    return max(1, min(12, (os.cpu_count() or 1) - 1))  # this process measures


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "triton")}


def _rows(path: Path) -> list[Row]:
    return list(config.parse(path.read_text("utf-8"), path.name)) if path.exists() else []


def known_rows(path: Path, dtype: str, channels: int, positions: int) -> dict[str, Config]:
    """Return kernel -> configuration of the rows for one layer measured with these versions."""
    wanted = {"dtype": dtype, "channels": channels, "positions": positions, **_versions()}
    rows = {row["kernel"]: row for row in _rows(path) if row.items() >= wanted.items()}
    return {
        kind.kernel: kind(**{field.name: rows[kind.kernel][field.name] for field in fields(kind)})
        for kind in tuned(channels, getattr(torch, dtype))
        if kind.kernel in rows
    }


def write(path: Path, gpu: Gpu, row: Row) -> None:
    """Put `row` into the file of a GPU, in place of the one of its size, atomically."""
    keys = ("kernel", "dtype", "channels", "positions")
    with _turn(path.parent):
        rows = [*_rows(path), row | _versions()]
        merged = {tuple(row[key] for key in keys): row for row in rows}
        content = {"gpu": asdict(gpu), "rows": [merged[key] for key in sorted(merged)]}
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        os.replace(draft, path)  # noqa: PTH105  replace, not rename: atomic on every system


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Have other tuners of the same files wait: each would write without the others' last rows."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 1 if a kernel could not be tuned, 2 with one line after an error."""
    parser = argparse.ArgumentParser(prog="python -m stylekernels.tune", description=__doc__)
    parser.add_argument("--size", type=int, action="append", help="pixels square; 512 and 2048")
    parser.add_argument("--dtype", action="append", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--jobs", type=int, default=_jobs(), help="compilers side by side")
    parser.add_argument("--output", type=Path, help="a folder; the installed package's by default")
    options = parser.parse_args(arguments)
    if options.jobs < 1 or min(options.size or [_SMALLEST]) < _SMALLEST:
        parser.error(f"--jobs must be at least 1, and --size at least {_SMALLEST}")
    if not torch.cuda.is_available():
        parser.error("there is no GPU here to measure on")
    try:
        return _tune(options)
    except (OSError, ValueError) as fault:  # a full disk, a file that is none of configurations
        sys.stderr.write(f"stylekernels.tune: error: {' '.join(str(fault).split())}\n")
        return 2


def _tune(options: argparse.Namespace) -> int:
    device = torch.device("cuda", torch.cuda.current_device())
    gpu = gpu_of(device)
    folder = options.output or Path(str(files("stylekernels") / "configs"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / config.file_name(gpu.name)

    def keep(row: Row) -> None:
        write(path, gpu, row)
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()

    layers = [
        (getattr(torch, name), channels, size // factor)
        for size in options.size or [512, 2048]
        for name in options.dtype or ["bfloat16", "float16", "float32"]
        for channels, factor in VGG
    ]
    whole = True
    with Compilers(compile_candidate, options.jobs) as compilers:
        for dtype, channels, side in layers:
            known = known_rows(path, str(dtype).removeprefix("torch."), channels, side**2)
            if len(known) == len(tuned(channels, dtype)):
                continue
            try:
                shape = Shape(dtype, channels, side, device)
            except Exception as fault:  # it may not fit into the memory
                _report(f"C={channels} at {side} px not tuned", fault)
                whole = False
                continue
            whole &= tune_shape(shape, gpu, known, keep, compilers.faults)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())

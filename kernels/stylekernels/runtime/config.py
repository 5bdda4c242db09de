"""Launch configurations: measured rows a GPU model, nearest size first, else an analytic default.

`configs/<gpu>.json` holds what `python -m stylekernels.tune` measured on that model. A GPU without
a file, or a kernel without a row, gets a default computed from the shape, the number of
multiprocessors and the shared memory. Nothing is tuned while a program runs.
"""

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from reprlib import Repr
from typing import Any, ClassVar, Self, TypeVar

import torch

K = TypeVar("K", bound="Config")


@dataclass(frozen=True)
class Gpu:
    """A GPU model: architecture as in sm_90, multiprocessors, shared memory in bytes a block."""

    name: str
    arch: int
    multiprocessors: int
    shared_memory: int

    @property
    def multiplies_registers(self) -> bool:
        """Whether its tensor cores take operands from registers: NVIDIA's but sm_90 and sm_100."""
        return self.arch in range(70, 90) or self.arch in range(120, 130)


@dataclass(frozen=True)
class Config:
    """Warps and pipeline stages of a kernel; subclasses add their blocks and compute a default."""

    kernel: ClassVar[str]
    num_warps: int
    num_stages: int

    @classmethod
    def default(cls, dtype: torch.dtype, channels: int, positions: int, gpu: Gpu) -> Self:
        """Return a configuration that fits any `gpu`, without measuring."""
        raise NotImplementedError


@dataclass(frozen=True)
class GramConfig(Config):
    """Positions a step, channels a tile side, programs that share the positions of a tile.

    `one_load` feeds both operands of a diagonal tile from one load. It is the exact same
    arithmetic; the switch is there because Triton does not pipeline one load for tensor cores that
    take their operands from registers, and because compilers have miscompiled x^T x of one block.
    """

    kernel = "gram"
    block_m: int
    block_c: int
    split: int
    one_load: bool = True

    @classmethod
    def default(cls, dtype: torch.dtype, channels: int, positions: int, gpu: Gpu) -> Self:
        """One or two programs a multiprocessor, each with at least four steps to amortize.

        Two unless their partial sums would be more than a third of what is read.
        """
        wide = dtype == torch.float32
        one_load = wide or not gpu.multiplies_registers
        block_c = min(_power_of_two(channels), 64 if wide else 128)
        block_m = 16 if wide else 64 if one_load or block_c <= 64 else 32
        tiles = math.comb(math.ceil(channels / block_c) + 1, 2)
        sums = 2 * gpu.multiprocessors * 4 * block_c**2
        programs = 2 if 3 * sums <= positions * channels * dtype.itemsize else 1
        split = min(
            math.ceil(programs * gpu.multiprocessors / tiles), math.ceil(positions / (4 * block_m))
        )
        step = 2 * block_m * block_c * dtype.itemsize
        return cls(
            num_warps=8 if block_c > 64 or wide else 4,
            num_stages=2 if wide else _stages(step, gpu),
            block_m=block_m,
            block_c=block_c,
            split=max(1, split),
            one_load=one_load,
        )


@dataclass(frozen=True)
class FinishConfig(Config):
    """Elements of the Gram a program, partials of each added at once."""

    kernel = "finish"
    block_e: int
    block_s: int

    @classmethod
    def default(cls, dtype: torch.dtype, channels: int, positions: int, gpu: Gpu) -> Self:
        """About two programs a multiprocessor, each thread with a few independent loads."""
        del dtype, positions
        share = channels * channels // (2 * gpu.multiprocessors)
        block_e = 1 << max(6, min(9, share.bit_length() - 1))
        return cls(num_warps=4, num_stages=2, block_e=block_e, block_s=2048 // block_e)


@dataclass(frozen=True)
class BackwardConfig(Config):
    """Positions and channels of an output block, channels of the inner step.

    Where the inner step holds all channels, so many `programs` in all may keep their part of S on
    the chip and take block after block; with 0 there is a program a block.
    """

    kernel = "backward"
    block_m: int
    block_n: int
    block_k: int
    programs: int = 0

    @classmethod
    def default(cls, dtype: torch.dtype, channels: int, positions: int, gpu: Gpu) -> Self:
        """In half precision with S on the chip if it fits there beside two blocks of features."""
        del positions
        if dtype == torch.float32:
            block_n, stages = min(_power_of_two(channels), 64), _stages(4 * 16 * (64 + 64), gpu)
            return cls(8, stages, block_m=64, block_n=block_n, block_k=16)
        block_k = _power_of_two(channels)
        block_n = min(block_k, 128)
        block_m = 128 if block_n <= 64 else 64
        slope = dtype.itemsize * block_k * block_n
        features = dtype.itemsize * block_m * (block_k + block_n * (1 if block_k == block_n else 2))
        warps = 8 if block_n >= 64 else 4
        if slope + 2 * features > gpu.shared_memory:
            block_m = 64 if gpu.multiplies_registers else 128  # of those, sums would take too many
            stages = _stages(dtype.itemsize * 64 * (block_m + block_n), gpu)
            return cls(warps, stages, block_m, block_n, block_k=64)
        stages = 3 if slope + 3 * features <= gpu.shared_memory else 2
        memory = slope + (2 * stages - 1) * features // 2
        programs = max(1, min(4, gpu.shared_memory // memory)) * gpu.multiprocessors
        return cls(warps, stages, block_m, block_n, block_k, programs)


@dataclass(frozen=True)
class PointwiseConfig(Config):
    """Elements a program of the kernels without products: pooling, content, total variation."""

    kernel = "pointwise"
    block: int

    @classmethod
    def default(cls, dtype: torch.dtype, channels: int, positions: int, gpu: Gpu) -> Self:
        """Four or eight elements a thread: one 16-byte access."""
        del channels, positions, gpu
        return cls(num_warps=4, num_stages=2, block=512 if dtype == torch.float32 else 1024)


@dataclass(frozen=True)
class DgradConfig(Config):
    """Pixels of a row that a program of the image's gradient reads, and rows that it writes.

    `maps` are those that it reads.
    """

    kernel = "dgrad"
    maps: ClassVar[int] = 1
    block_w: int
    rows: int

    @classmethod
    def default(cls, dtype: torch.dtype, channels: int, positions: int, gpu: Gpu) -> Self:
        """About two programs a multiprocessor, of at most 16 rows: two more are read.

        There is room for three: blocks at the right edge make the number uneven. In fp32 four
        times the threads share what a product holds.
        """
        wide = dtype == torch.float32
        block_w = 32 if wide else 64
        step = 3 * cls.maps * block_w * _power_of_two(channels) * dtype.itemsize
        rows = positions // (2 * gpu.multiprocessors * block_w)
        return cls(
            num_warps=8 if wide else 4,
            num_stages=_stages(step, gpu),
            block_w=block_w,
            rows=max(2, min(16, rows)),
        )


@dataclass(frozen=True)
class TapDgradConfig(DgradConfig):
    """Likewise of the image's gradient behind a tap, which reads two maps."""

    kernel = "tap_dgrad"
    maps = 2


KINDS: dict[str, type[Config]] = {
    kind.kernel: kind
    for kind in (
        GramConfig,
        FinishConfig,
        BackwardConfig,
        PointwiseConfig,
        DgradConfig,
        TapDgradConfig,
    )
}


def _power_of_two(channels: int) -> int:
    return max(16, 1 << (channels - 1).bit_length())


def _stages(step: int, gpu: Gpu) -> int:
    """Return the pipeline depth of loads of `step` bytes that leaves a quarter of memory free."""
    return max(2, min(4, gpu.shared_memory * 3 // 4 // step))


_assumed: Gpu | None = None


@contextmanager
def assuming(gpu: Gpu) -> Iterator[None]:
    """Plan launches on meta tensors, or fake ones, for a GPU that is not there."""
    global _assumed
    _assumed = gpu
    try:
        yield
    finally:
        _assumed = None


def is_assuming() -> bool:
    """Say whether launches are planned for a GPU that is not there."""
    return _assumed is not None


def gpu_of(device: torch.device) -> Gpu:
    """Describe `device`; a CPU stands for the interpreter and gets a toy GPU."""
    if device.type in ("cuda", "meta") and _assumed is not None:
        return _assumed
    if device.type == "cuda":
        return _present(device)
    return Gpu("interpreter", 0, 2, 64 << 10)


@cache
def _present(device: torch.device) -> Gpu:
    properties = torch.cuda.get_device_properties(device)
    shared = getattr(properties, "shared_memory_per_block_optin", 0) or 64 << 10
    arch = 10 * properties.major + properties.minor
    return Gpu(properties.name, arch, properties.multi_processor_count, shared)


def file_name(gpu_name: str) -> str:
    """Return the name of a GPU model's file of measurements: 'NVIDIA H200' -> nvidia_h200.json."""
    return re.sub(r"[^a-z0-9]+", "_", gpu_name.lower()).strip("_") + ".json"


_LARGEST_FILE = 16 << 20
_LARGEST_NUMBER = 2**40
_LONGEST_LINE = 300
_POWERS_OF_TWO = frozenset(
    {
        "num_warps",
        "block",
        "block_m",
        "block_c",
        "block_n",
        "block_k",
        "block_e",
        "block_s",
        "block_w",
    }
)
_BRIEF = Repr()
_BRIEF.maxdict = 20

OWN_FOLDER = "STYLEKERNELS_CONFIGS"
"""Environment variable that names the user's own folder of measured configurations."""


@cache
def measured(gpu_name: str) -> tuple[dict[str, Any], ...]:
    """Return the rows measured on a GPU model, none if it has no file.

    A file in the folder that STYLEKERNELS_CONFIGS names goes before the one that is shipped.

    Raises:
        ValueError: the file is not of this form, with its name and the fault.
    """
    own = os.environ.get(OWN_FOLDER)
    for folder in ([Path(own)] if own else []) + [files("stylekernels") / "configs"]:
        path = folder / file_name(gpu_name)
        if path.is_file():
            return parse(_text(path), str(path))
    return ()


def _text(path: Path | Traversable) -> str:
    """Return the text of a file that is no larger than such a file may be."""
    try:
        with path.open("rb") as file:
            data: bytes = file.read(_LARGEST_FILE + 1)
        if len(data) <= _LARGEST_FILE:
            return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise ValueError(f'{path} is not {{"rows": [...]}}: {fault}') from fault
    raise ValueError(f'{path} is not {{"rows": [...]}}: more than {_LARGEST_FILE} bytes')


def shipped_gpus() -> list[Gpu]:
    """Return the GPU models that ship with measurements."""
    folder = files("stylekernels") / "configs"
    if not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if path.name.endswith(".json")]
    return [Gpu(**json.loads(path.read_text(encoding="utf-8"))["gpu"]) for path in paths]


def parse(text: str, name: str) -> tuple[dict[str, Any], ...]:
    """Read the rows of one configuration file.

    Raises:
        ValueError: with `name` and the offending row.
    """
    try:
        rows = json.loads(text)["rows"]
    except (ValueError, KeyError, TypeError, RecursionError) as fault:
        raise ValueError(f'{name} is not {{"rows": [...]}}: {fault!r}'[:_LONGEST_LINE]) from fault
    if not isinstance(rows, list):
        raise ValueError(  # noqa: TRY004
            f'{name} is not {{"rows": [...]}}: its rows are {_brief(rows)}'
        )
    for row in rows:
        if wrong := _fault(row):
            raise ValueError(f"{name}: {wrong}")
    return tuple(rows)


def _fault(row: Any) -> str | None:
    """Return what keeps `row` from being one of a configuration file, if anything does."""
    kernel = row.get("kernel") if isinstance(row, dict) else None
    kind = KINDS.get(kernel) if isinstance(kernel, str) else None
    if kind is None:
        return f"kernel must be one of {sorted(KINDS)}, got {_brief(row)}"
    if missing := {"dtype", "channels", "positions", *_names(kind)} - set(row):
        return f"{sorted(missing)} missing in {_brief(row)}"
    if not isinstance(row["dtype"], str):
        return f"dtype must be a name as 'float16', got {_brief(row['dtype'])}"
    for field in fields(kind):
        if field.type is bool and not isinstance(row[field.name], bool):
            return f"{field.name} must be true or false, got {_brief(row[field.name])}"
    numbers = [field.name for field in fields(kind) if field.type is int]
    for number in ("channels", "positions", *numbers):
        least = 0 if number in {"split", "programs"} else 1
        if type(row[number]) is not int or not least <= row[number] <= _LARGEST_NUMBER:
            return f"{number} must be a whole number of {least} or more, got {_brief(row[number])}"
    for number in _POWERS_OF_TWO.intersection(numbers):
        if row[number] & (row[number] - 1):
            return f"{number} must be a power of two, got {row[number]}"
    return None


def _brief(value: Any) -> str:
    """Return the beginning of a value in a message."""
    return _BRIEF.repr(value)


def _names(kind: type[Config]) -> list[str]:
    return [field.name for field in fields(kind)]


def select(kind: type[K], dtype: torch.dtype, channels: int, positions: int, gpu: Gpu) -> K:
    """Return the configuration for a shape: the measured row nearest in size, or the default.

    A row counts only for the same kernel, dtype and number of channels; among those the nearest
    number of positions wins, by ratio.
    """
    wanted = (kind.kernel, str(dtype).removeprefix("torch."), channels)
    near = [
        row
        for row in measured(gpu.name)
        if (row["kernel"], row["dtype"], row["channels"]) == wanted
    ]
    if not near:
        return kind.default(dtype, channels, positions, gpu)
    best = min(near, key=lambda row: abs(math.log(row["positions"] / positions)))
    return kind(**{name: best[name] for name in _names(kind)})


def as_row(config: Config, dtype: torch.dtype, channels: int, positions: int) -> dict[str, Any]:
    """Return a configuration as a row of a configuration file."""
    size = {
        "kernel": config.kernel,
        "dtype": str(dtype).removeprefix("torch."),
        "channels": channels,
        "positions": positions,
    }
    return size | asdict(config)

"""The file of a run put down between two iterations.

It holds everything that the next iteration depends on and the inputs do not give: the unclamped
image, the optimizer's tensors, the losses so far. Pictures, weights and settings are given again,
and are checked to be the same. Every field of the file is checked, and its hash, before any is
used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from reprlib import Repr
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stylebench.files.from_dict import from_dict
from stylebench.files.paths import FileError, expand
from stylebench.files.reading import check_file
from stylebench.files.writing import atomic_path
from stylebench.transfer.hashing import hash_of
from stylebench.transfer.init import is_named
from stylebench.transfer.masks import NONE, WHOLE
from stylebench.transfer.problem import Problem
from stylebench.transfer.values import whole

_VERSION = 8
_HEADER = "stylebench"  # its key in the file's metadata
_OPTIMIZER = "optimizer."
_COLUMNS = ("iteration", "seconds", "loss")  # of a row, before the terms
#: A run may be taken further than it was meant to go, and by more or fewer processes.
_FREE = {"iterations", "polish", "scales", "distributed", "processes"}
_BRIEF = Repr()
_BRIEF.maxstring = 80


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or belongs to another run."""


@dataclass(frozen=True)
class CheckpointConfig:
    """The file of a run's checkpoints, and their distance.

    Attributes:
        path: of the file, which each checkpoint replaces.
        every: iterations between two; there is one at the end of every phase as well.

    Raises:
        ValueError: ``every`` is no whole number of 1 or more.
    """

    path: Path
    every: int = 50

    def __post_init__(self) -> None:
        object.__setattr__(self, "every", whole("every", self.every))


Keep = CheckpointConfig  # its former name


@dataclass(frozen=True)
class _Header:
    """The fields of a checkpoint that are no tensors; see ``Checkpoint``.

    Attributes:
        columns: names of a row's values.
        convolutions: see ``Checkpoint``.
        sha256: of the other fields and all tensors.
    """

    version: int
    phase: int
    phase_began: int
    columns: list[str]
    best_loss: float
    best_iteration: int
    identity: Mapping[str, Any]
    inputs: Mapping[str, str]
    convolutions: Mapping[str, Mapping[str, str]]
    sha256: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.phase <= self.phase_began or (not self.phase and self.phase_began):
            raise ValueError(f"phase {self.phase} cannot begin after {self.phase_began} iterations")
        if self.best_iteration <= self.phase_began:
            raise ValueError(
                f"best_iteration is {self.best_iteration}, expected one after the "
                f"{self.phase_began} before the phase"
            )
        twice = len(set(self.columns)) < len(self.columns)
        if tuple(self.columns[:3]) != _COLUMNS or len(self.columns) == 3 or twice:
            raise ValueError(f"columns are {_BRIEF.repr(self.columns)}, expected {_COLUMNS}, terms")


@dataclass(frozen=True)
class Checkpoint:
    """A run between two iterations, as a file holds it.

    Attributes:
        phase: index of the phase that it is in.
        phase_began: evaluations before that phase.
        start: [1, 3, H, W], preprocessed, the picture that the run's change is told from.
        image: the image as it is now.
        optimizer: the optimizer's tensors by name.
        rows: one an evaluation, as in ``Trace``.
        best_loss: the lowest loss of this phase.
        best_iteration: the evaluation that found it.
        identity: the settings that have to be the same when the run goes on; see ``identity_of``.
        inputs: hashes of what has to be the same too; see ``input_hashes``.
        convolutions: the algorithms that were measured to be the fastest, machine -> layer -> name:
            measured anew, others might be, whose bits differ.
    """

    phase: int
    phase_began: int
    start: Tensor
    image: Tensor
    optimizer: Mapping[str, Tensor]
    rows: list[dict[str, float]]
    best_loss: float
    best_iteration: int
    identity: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    convolutions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write a safetensors file, atomically.

        Raises:
            CheckpointError: there was no iteration yet, or the file cannot be written, as on a full
                disk.
        """
        if not self.rows:
            raise CheckpointError(f"{path}: there is nothing to write before the first iteration")
        columns = list(self.rows[0])
        rows = [[row[name] for name in columns] for row in self.rows]
        tensors = {"start": self.start, "image": self.image}
        tensors |= {_OPTIMIZER + name: tensor for name, tensor in self.optimizer.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        tensors["rows"] = torch.tensor(rows, dtype=torch.float64)
        header = _Header(
            _VERSION, self.phase, self.phase_began, columns, self.best_loss, self.best_iteration,
            self.identity, self.inputs, self.convolutions,
        )  # fmt: skip
        header = replace(header, sha256=_hash(header, tensors))
        try:
            with atomic_path(path) as partial:
                save_file(tensors, partial, {_HEADER: json.dumps(asdict(header))})
        except (OSError, FileError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be written: {error}") from error

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a file that ``save`` wrote.

        Raises:
            CheckpointError: the file is missing, broken, changed, or none of ours.
        """
        path = expand(path)
        try:
            return _checkpoint(*_read(path))
        except _OtherVersion as error:
            raise CheckpointError(f"{path} is a checkpoint of {error}") from error
        except (ValueError, RecursionError) as error:
            reason = str(error).removeprefix(f"{path}: ")
            raise CheckpointError(f"{path} is no checkpoint of a run: {reason}") from error

    def check(self, problem: Problem, inputs: Mapping[str, str]) -> None:
        """Refuse another problem than the one that was put down.

        Args:
            problem: that the run would go on with.
            inputs: its ``input_hashes``.

        Raises:
            CheckpointError: naming the first difference.
        """
        saved, current = self.identity, identity_of(problem)
        for name in sorted({*saved, *current}):
            if name not in saved or name not in current or saved[name] != current[name]:
                was, now = (_BRIEF.repr(of.get(name)) for of in (saved, current))
                raise CheckpointError(
                    f"the checkpoint was made with {name} {was}, and this run has {now}: resume "
                    "with the same settings"
                )
        for name in {**self.inputs, **inputs}:
            if self.inputs.get(name) != inputs.get(name):
                raise CheckpointError(
                    f"the checkpoint was made with other pictures or weights: the {name} differs"
                )
        for tensor in (self.start, self.image):
            shape, dtype = problem.shape, problem.image.dtype
            if (tuple(tensor.shape), tensor.dtype) != (shape, dtype):
                raise CheckpointError(
                    f"the checkpoint's image is {tuple(tensor.shape)} {tensor.dtype}, and this "
                    f"run's is {shape} {dtype}"
                )


def identity_of(problem: Problem) -> dict[str, Any]:
    """Settings, ready for JSON, by which a run is known again."""
    chosen = {name: value for name, value in problem.parameters.items() if name not in _FREE}
    if not is_named(chosen.get("init")):
        chosen["init"] = "a picture"  # which is among the inputs
    masks = chosen.pop("masks", None)
    if masks:  # whose pictures are, too
        chosen["masks"] = [style if style in (NONE, WHOLE) else "a mask" for _, style in masks]
    identity: dict[str, Any] = json.loads(json.dumps(chosen, default=str))
    return identity


class _OtherVersion(Exception):
    """A checkpoint of another version; the message is the rest of a sentence."""


def _read(path: Path) -> tuple[_Header, dict[str, Tensor]]:
    """The header and the tensors of a file, each by itself as it should be.

    Raises:
        ValueError: something is not.
        _OtherVersion: it is none of this version.
    """
    check_file(path, _installed_memory(), "a checkpoint")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            header = _header(metadata[_HEADER]) if _HEADER in metadata else None
            names = list(file.keys()) if header else []
            tensors = {name: file.get_tensor(name) for name in names}
    except (ValueError, RecursionError, _OtherVersion):
        raise
    except Exception as error:  # safetensors and torch raise errors of many types
        raise ValueError(
            "it is another kind of file, or damaged; give the file that --checkpoint wrote, or "
            "leave --resume out to begin anew"
        ) from error
    if header is None:
        raise ValueError("it has no header of stylebench")
    return header, tensors


def _installed_memory() -> int:
    """Bytes; a terabyte where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**40


def _header(text: str) -> _Header:
    data = json.loads(text)
    version = data.get("version") if isinstance(data, dict) else None
    if type(version) is int and version != _VERSION:
        raise _OtherVersion(
            f"version {_BRIEF.repr(version)}, expected {_VERSION}: take it up with the stylebench "
            "that wrote it"
        )
    header: _Header = from_dict(_Header, data)
    return header


def _checkpoint(header: _Header, tensors: dict[str, Tensor]) -> Checkpoint:
    """The checkpoint of parts that fit each other.

    Raises:
        ValueError: they do not, or are not those that were written.
    """
    known = {name for name in tensors if name.startswith(_OPTIMIZER)}
    known |= {"start", "image", "rows"}
    if known != tensors.keys():
        raise ValueError(f"its tensors are {_BRIEF.repr(sorted(tensors))}")
    for name in ("start", "image"):
        _check_image(name, tensors[name])
    if tensors["start"].shape != tensors["image"].shape:
        raise ValueError("its start and image differ in size")
    rows = _rows(header, tensors["rows"])
    if header.sha256 != _hash(header, tensors):
        raise ValueError("its hash is another: it was changed after it was written")
    optimizer = {
        name.removeprefix(_OPTIMIZER): tensor
        for name, tensor in tensors.items()
        if name.startswith(_OPTIMIZER)
    }
    return Checkpoint(
        header.phase, header.phase_began, tensors["start"], tensors["image"], optimizer,
        rows, header.best_loss, header.best_iteration, header.identity,
        header.inputs, header.convolutions,
    )  # fmt: skip


def _check_image(name: str, image: Tensor) -> None:
    floats = image.dtype in (torch.float32, torch.float64)
    if image.ndim != 4 or image.shape[:2] != (1, 3) or not floats or not image.numel():
        raise ValueError(f"its {name} is {tuple(image.shape)} {image.dtype}, no image")
    if not bool(image.isfinite().all()):
        raise ValueError(f"its {name} is not finite")


def _rows(header: _Header, rows: Tensor) -> list[dict[str, float]]:
    """The rows of a trace; those that were rolled back may have losses that are not finite."""
    if rows.ndim != 2 or rows.shape[1] != len(header.columns) or rows.dtype != torch.float64:
        raise ValueError(f"its rows are {tuple(rows.shape)} {rows.dtype}")
    if not header.best_iteration <= len(rows):
        raise ValueError(f"best_iteration is {header.best_iteration} of {len(rows)} rows")
    iterations, seconds = rows[:, 0], rows[:, 1]
    if not torch.equal(iterations, torch.arange(1, len(rows) + 1, dtype=torch.float64)):
        raise ValueError("its rows are not counted from 1")
    falls = bool((seconds.diff() < 0).any())
    if falls or not seconds[0] >= 0 or not bool(seconds.isfinite().all()):
        raise ValueError("the seconds of its rows do not grow")
    named = [dict(zip(header.columns, row, strict=True)) for row in rows.tolist()]
    if named[header.best_iteration - 1]["loss"] != header.best_loss:
        raise ValueError("its best loss is not that of the best iteration")
    for row in named:
        row["iteration"] = int(row["iteration"])
    return named


def _hash(header: _Header, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the header but its own hash, and of all tensors."""
    text = json.dumps(asdict(replace(header, sha256="")), sort_keys=True)
    return hash_of(tensors, text)

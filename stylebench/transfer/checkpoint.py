"""The file of a run put down between two iterations.

It holds everything that the next iteration depends on and the inputs do not give: the unclamped
image, the optimizer's tensors, the losses so far. Pictures, weights and settings are given again,
and are checked to be the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stylebench.files.writing import atomic_path
from stylebench.transfer.problem import Problem

_VERSION = 4
_OPTIMIZER = "optimizer."
_FREE = {"iterations", "polish", "scales"}  # a run may be taken further than it was meant to go
_SAME_PICTURE = 1e-3  # relative, of a target's norm: other pictures differ by more, roundings less


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or belongs to another run."""


@dataclass(frozen=True)
class CheckpointConfig:
    """The file of a run's checkpoints, and their distance.

    Attributes:
        path: of the file, which each checkpoint replaces.
        every: iterations between two; there is one at the end of every phase as well.
    """

    path: Path
    every: int = 50


Keep = CheckpointConfig  # its former name


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
        identity: everything that has to be the same when the run goes on; see ``identity_of``.
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

    def save(self, path: Path) -> None:
        """Write a safetensors file, atomically.

        Raises:
            CheckpointError: it cannot be written, as on a full disk.
        """
        columns = list(self.rows[0])
        rows = [[row[name] for name in columns] for row in self.rows]
        tensors = {"start": self.start, "image": self.image}
        tensors |= {_OPTIMIZER + name: tensor for name, tensor in self.optimizer.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        tensors["rows"] = torch.tensor(rows, dtype=torch.float64)
        header = {
            "version": _VERSION, "phase": self.phase, "phase_began": self.phase_began,
            "columns": columns, "best_loss": self.best_loss, "best_iteration": self.best_iteration,
            "identity": self.identity,
        }  # fmt: skip
        try:
            with atomic_path(path) as partial:
                save_file(tensors, partial, {"stylebench": json.dumps(header)})
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be written: {error}") from error

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a file that ``save`` wrote.

        Raises:
            CheckpointError: the file is missing, broken, or none of ours.
        """
        try:
            with safe_open(path, "pt") as file:
                header = json.loads((file.metadata() or {})["stylebench"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
            reason = str(error) or type(error).__name__
            raise CheckpointError(f"{path} is no checkpoint of a run: {reason}") from error
        if header["version"] != _VERSION:
            raise CheckpointError(
                f"{path} is a checkpoint of version {header['version']}, expected {_VERSION}: "
                "take it up with the stylebench that wrote it"
            )
        rows = [dict(zip(header["columns"], row, strict=True)) for row in tensors["rows"].tolist()]
        for row in rows:
            row["iteration"] = int(row["iteration"])
        return cls(
            header["phase"], header["phase_began"], tensors["start"], tensors["image"],
            {
                name.removeprefix(_OPTIMIZER): tensor
                for name, tensor in tensors.items()
                if name.startswith(_OPTIMIZER)
            },
            rows, header["best_loss"], header["best_iteration"], header["identity"],
        )  # fmt: skip

    def check(self, problem: Problem) -> None:
        """Refuse another problem than the one that was put down.

        Raises:
            CheckpointError: naming the first difference.
        """
        saved, current = self.identity, identity_of(problem)
        for name in sorted({*saved, *current}):
            if name != "targets" and saved.get(name) != current.get(name):
                raise CheckpointError(
                    f"the checkpoint was made with {name} {saved.get(name)!r}, and this run has "
                    f"{current.get(name)!r}: resume with the same settings"
                )
        for name, norm in saved["targets"].items():
            if abs(current["targets"][name] - norm) > _SAME_PICTURE * abs(norm):
                raise CheckpointError(
                    f"the checkpoint was made with other pictures: the target of {name} differs"
                )


def identity_of(problem: Problem) -> dict[str, Any]:
    """Settings and norms of targets, ready for JSON, by which a run is known again."""
    chosen = {name: value for name, value in problem.parameters.items() if name not in _FREE}
    identity: dict[str, Any] = json.loads(json.dumps(chosen, default=str))
    targets = problem.engine.targets
    norms = {
        f"{kind} {layer}": float(target.norm())
        for kind, of_kind in (("content", targets.content), ("style", targets.style))
        for layer, target in of_kind.items()
    }
    return {**identity, "targets": norms}

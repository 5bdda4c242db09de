"""A run put down between two iterations, to be taken up again with no bit different.

The file holds everything that the next iteration depends on and the pictures do not give: the
unclamped image, the optimizer's tensors, the losses so far. Pictures, weights and settings are
given again, and are checked to be the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stylebench.image.files import atomic_path
from stylebench.optim.adam import Adam
from stylebench.optim.lbfgs import LBFGS
from stylebench.transfer.loop import Trace
from stylebench.transfer.problem import Problem
from stylebench.transfer.state import Moved

_VERSION = 2
_OPTIMIZER = "optimizer."
_FREE = {"iterations", "polish", "scales"}  # a run may be taken further than it was meant to go
_ALIKE = 1e-3  # relative, of a target's norm: other pictures differ by more, other roundings less


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or belongs to another run."""


@dataclass(frozen=True)
class Keep:
    """Where to write checkpoints, and how often.

    Attributes:
        path: of the file, which each replaces.
        every: iterations between two; there is one at the end of a run as well.
    """

    path: Path
    every: int = 50


@dataclass(frozen=True)
class Checkpoint:
    """A run between two iterations.

    Attributes:
        leg: which of its legs it is in, from 0.
        first: evaluations before that leg.
        start: the image [1, 3, H, W], preprocessed, that the leg began with.
        image: where it is now.
        optimizer: its tensors by name.
        rows: one an evaluation, as in ``Trace``.
        best_loss: of this leg.
        best_iteration: likewise.
        problem: what was run, see ``_identity``.
    """

    leg: int
    first: int
    start: Tensor
    image: Tensor
    optimizer: Mapping[str, Tensor]
    rows: list[dict[str, float]]
    best_loss: float
    best_iteration: int
    problem: Mapping[str, Any]

    @classmethod
    def of(cls, leg: int, first: int, problem: Problem, moved: Moved, trace: Trace) -> Checkpoint:
        """What ``trace`` has come to in a leg that began after ``first`` evaluations."""
        state = resident(moved).state_dict()
        return cls(
            leg, first, problem.image, moved.image, state, trace.rows, trace.best_loss,
            trace.best_iteration, _identity(problem),
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write it, atomically, as a safetensors file."""
        columns = list(self.rows[0])
        rows = [[row[name] for name in columns] for row in self.rows]
        tensors = {"start": self.start, "image": self.image}
        tensors |= {_OPTIMIZER + name: tensor for name, tensor in self.optimizer.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        tensors["rows"] = torch.tensor(rows, dtype=torch.float64)
        about = {
            "version": _VERSION, "leg": self.leg, "first": self.first, "columns": columns,
            "best_loss": self.best_loss, "best_iteration": self.best_iteration,
            "problem": self.problem,
        }  # fmt: skip
        with atomic_path(path) as partial:
            save_file(tensors, partial, {"stylebench": json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read one.

        Raises:
            CheckpointError: the file is missing, broken, or none of ours.
        """
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["stylebench"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
            reason = str(error) or type(error).__name__
            raise CheckpointError(f"{path} is no checkpoint of a run: {reason}") from error
        if about["version"] != _VERSION:
            raise CheckpointError(
                f"{path} is a checkpoint of version {about['version']}, expected {_VERSION}: "
                "take it up with the stylebench that wrote it"
            )
        rows = [dict(zip(about["columns"], row, strict=True)) for row in tensors["rows"].tolist()]
        for row in rows:
            row["iteration"] = int(row["iteration"])
        return cls(
            about["leg"], about["first"], tensors["start"], tensors["image"],
            {
                name.removeprefix(_OPTIMIZER): tensor
                for name, tensor in tensors.items()
                if name.startswith(_OPTIMIZER)
            },
            rows, about["best_loss"], about["best_iteration"], about["problem"],
        )  # fmt: skip

    def check(self, problem: Problem) -> None:
        """Refuse another problem than the one that was put down.

        Raises:
            CheckpointError: naming the first difference.
        """
        there, here = self.problem, _identity(problem)
        for name in sorted({*there, *here}):
            if name != "targets" and there.get(name) != here.get(name):
                raise CheckpointError(
                    f"the checkpoint was made with {name} {there.get(name)!r}, and this run has "
                    f"{here.get(name)!r}: resume with the same settings"
                )
        for name, norm in there["targets"].items():
            if abs(here["targets"][name] - norm) > _ALIKE * abs(norm):
                raise CheckpointError(
                    f"the checkpoint was made with other pictures: the target of {name} differs"
                )

    def trace(self) -> Trace:
        """The run so far, its clock going on where it stopped."""
        started = perf_counter() - self.rows[-1]["seconds"]
        return Trace(
            self.image.clone(), self.best_loss, self.best_iteration, list(self.rows), started
        )

    def moved(self, fresh: Moved) -> Moved:
        """``fresh`` as it was put down.

        Raises:
            CheckpointError: its optimizer is of another kind.
        """
        fresh.image.copy_(self.image)
        try:
            resident(fresh).load_state_dict(dict(self.optimizer))
        except ValueError as error:
            raise CheckpointError(f"the checkpoint is of another optimizer: {error}") from error
        return fresh


def resident(moved: Moved) -> LBFGS | Adam:
    """The optimizer of ``moved``, whose state can be kept.

    Raises:
        CheckpointError: it is one of torch's own.
    """
    if not isinstance(moved.optimizer, LBFGS | Adam):
        raise CheckpointError(
            "checkpoints need an optimizer that stays on the device: choose another engine than "
            "reference, and no tolerances"
        )
    return moved.optimizer


def _identity(problem: Problem) -> dict[str, Any]:
    """What has to be the same when a run is taken up again, ready for JSON."""
    chosen = {name: value for name, value in problem.parameters.items() if name not in _FREE}
    found: dict[str, Any] = json.loads(json.dumps(chosen, default=str))
    targets = problem.engine.targets
    norms = {
        f"{kind} {layer}": float(target.norm())
        for kind, of_kind in (("content", targets.content), ("style", targets.style))
        for layer, target in of_kind.items()
    }
    return {**found, "targets": norms}

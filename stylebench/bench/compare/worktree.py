"""Another revision of the sources measured against the working tree, in turn.

The only module of ``compare`` that uses ``suites``: it runs one, with a user's ``Options``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import stylebench
from stylebench.bench.records.record import Record
from stylebench.bench.records.store import load_records
from stylebench.bench.suites.base import Options

_FAILED_CASES = 1  # exit code of a suite that ended, with cases that failed and say so


def measured_against(
    revision: str, suite: str, options: Options, rounds: int
) -> tuple[list[Record], list[Record]]:
    """Records of ``revision`` and of the working tree, a run of each a round.

    Each run is a process of its own, since one process can hold one version of the package.

    Raises:
        ValueError: no git repository, no such revision, or one whose run of the suite did not
            end, or left what cannot be read here.
    """
    current = Path(stylebench.__file__ or ".").parents[1]
    with tempfile.TemporaryDirectory() as folder, checked_out(current, revision) as earlier:
        for number in range(rounds):
            for name, root in (("before", earlier), ("after", current)):
                output = Path(folder) / name / str(number)
                _run(root, suite, options, output)
        return _records(Path(folder) / "before"), _records(Path(folder) / "after")


@contextmanager
def checked_out(repository: Path, revision: str) -> Iterator[Path]:
    """A temporary working tree at ``revision``."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        _git(repository, "worktree", "add", "--detach", str(tree), revision)
        try:
            yield tree
        finally:
            _git(repository, "worktree", "remove", "--force", str(tree))


def _run(root: Path, suite: str, options: Options, output: Path) -> None:
    command = [
        sys.executable, "-m", "stylebench", "bench", suite, *_arguments(options),
        "--output", str(output),
    ]  # fmt: skip
    path = os.pathsep.join([str(root), str(root / "kernels")])
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": path}, check=False,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode not in (0, _FAILED_CASES):
        raise ValueError(f"{root}: the suite {suite!r} ended with {done.returncode}: {last}")
    if not any(record.complete for record in _records(output)):
        raise ValueError(f"{root} cannot run the suite {suite!r}: {last}")


def _records(folder: Path) -> list[Record]:
    """All records below ``folder``; an unreadable one is an error, since this very run wrote it."""
    if not folder.is_dir():
        return []
    stored, faults = load_records(folder)
    if faults:
        raise ValueError("; ".join(faults))
    return [one.record for one in stored]


def _git(repository: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"git {arguments[0]} {arguments[1]}: {done.stderr.strip()}")


def _arguments(options: Options) -> list[str]:
    """``options`` as command line arguments."""
    named = {
        "--device": options.device, "--size": options.size, "--content": options.content,
        "--style": options.style, "--weights": options.weights, "--filter": options.pattern,
        "--seconds": options.seconds,
    }  # fmt: skip
    pairs = [[name, str(value)] for name, value in named.items() if value is not None]
    return ["--quick"] * options.quick + [word for pair in pairs for word in pair]

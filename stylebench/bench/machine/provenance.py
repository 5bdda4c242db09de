"""The software and the code that a benchmark ran with."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import stylebench
import stylekernels
from stylebench.bench.machine.nvml import driver_version
from stylebench.bench.records.record import Code, Software
from stylebench.version import __version__
from stylekernels.native.sources import sources_hash

#: The folders of the sources that a record is of.
PACKAGES = tuple(Path(package.__file__ or ".").parent for package in (stylebench, stylekernels))


def software() -> Software:
    """Version numbers; None for what is not installed."""
    cuda = torch.cuda.is_available()
    return Software(
        os=platform.platform(),
        python=platform.python_version(),
        torch=torch.__version__,
        stylebench=__version__,
        triton=_installed("triton"),
        driver=driver_version() if cuda else None,
        cuda=torch.version.cuda if cuda else None,
        cudnn=_cudnn() if cuda else None,
    )


def code() -> Code:
    """The commit of the sources where they are a repository's own, and their hash anywhere."""
    root = PACKAGES[0].parent
    top = _git(root, "rev-parse", "--show-toplevel")
    own = top is not None and Path(top).resolve() == root.resolve()
    changes = _git(root, "status", "--porcelain", "--", ".", ":!results") if own else None
    return Code(
        commit=_git(root, "rev-parse", "HEAD") if own else None,
        dirty=None if changes is None else bool(changes),
        sha256=sources_hash(PACKAGES),
    )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cudnn() -> str | None:
    number = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return None if number is None else str(number)

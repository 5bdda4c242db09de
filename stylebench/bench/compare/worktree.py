"""Another revision of the sources measured against the working tree, in turn.

The only module of ``compare`` that uses ``suites``: it runs one, with a user's ``Options``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import stylebench
from stylebench.bench.records.record import Record
from stylebench.bench.records.store import load_records
from stylebench.bench.suites import suite as suite_named
from stylebench.bench.suites.base import Bench, Options
from stylebench.bench.suites.child_process import child_process
from stylebench.bench.suites.runner import wanted
from stylebench.files.scratch import scratch_folder
from stylekernels.native.sources import sources_hash

_FAILED_CASES = 1  # exit code of a suite that ended, with cases that failed and say so
_PREFIX = "stylebench-compare-"  # of temporary folders
_PACKAGES = (Path("stylebench"), Path("kernels") / "stylekernels")


def measured_against(
    revision: str, suite: str, options: Options, rounds: int
) -> tuple[list[Record], list[Record]]:
    """Records of ``revision`` and of the working tree, a run of each a round.

    Each run is a process of its own, since one process can hold one version of the package.

    Raises:
        ValueError: no such suite, no case that the filter matches, no git repository, no such
            revision, one without the packages, or one whose run of the suite did not end, measured
            other code, or left what cannot be read here.
    """
    chosen = suite_named(suite)
    options.check()
    if options.pattern is not None:
        bench = Bench(options)
        wanted(chosen, options, list(chosen.jobs(bench)))
    current = Path(stylebench.__file__ or ".").resolve().parents[1]
    with checked_out(current, revision) as earlier, scratch_folder(_PREFIX) as folder:
        try:
            hashes = {root: packages_hash(root) for root in (earlier, current)}
        except ValueError as error:
            raise ValueError(f"--base {revision}: {error}") from error
        for number in range(rounds):
            for name, root in (("before", earlier), ("after", current)):
                output = folder / name / str(number)
                _run(root, suite, options, output)
                _check_code(_records(output), hashes[root], revision if root == earlier else None)
        return _records(folder / "before"), _records(folder / "after")


@contextmanager
def checked_out(repository: Path, revision: str) -> Iterator[Path]:
    """The files of ``revision`` in a temporary folder, which git knows nothing of.

    Raises:
        ValueError: ``repository`` is none of git's, or has no such revision.
    """
    commit = commit_of(repository, revision)
    with scratch_folder(_PREFIX) as folder:
        archive, tree = folder / "tree.tar", folder / "tree"
        _git(repository, "archive", "--format=tar", f"--output={archive}", commit)
        with tarfile.open(archive) as files:
            files.extractall(tree, filter="data")
        archive.unlink()
        yield tree


def commit_of(repository: Path, revision: str) -> str:
    """The commit that ``revision`` names, 40 digits or more; whatever it is, it is no option.

    Raises:
        ValueError: ``repository`` is none of git's, or has no such revision.
    """
    top = _git(repository, "rev-parse", "--show-toplevel")
    if Path(top).resolve() != repository.resolve():
        raise ValueError(
            f"--base {revision}: stylebench at {repository} is no git repository of its own; "
            "run the command from a clone"
        )
    named = f"{revision}^{{commit}}"
    with suppress(ValueError):
        commit = _git(repository, "rev-parse", "--verify", "--end-of-options", named)
        if re.fullmatch("[0-9a-f]{40,64}", commit):
            return commit
    raise ValueError(
        f"--base {revision}: is no revision of {repository}; expected a commit, a branch or a "
        "tag, as 'git log' names them"
    )


def packages_hash(root: Path) -> str:
    """The hash of the sources of both packages below ``root``, as records have it.

    Raises:
        ValueError: a package is not there, so that Python would take another one in its place.
    """
    packages = [root / package for package in _PACKAGES]
    for package in packages:
        if not (package / "__init__.py").is_file():
            name = package.relative_to(root).as_posix()
            raise ValueError(f"has no package {name}, so there is nothing to measure")
    return sources_hash(packages)


def _check_code(records: list[Record], expected: str, revision: str | None) -> None:
    """Refuse records of other sources: an installed package, or files changed meanwhile."""
    if any(record.code.sha256 != expected for record in records):
        where = f"revision {revision}" if revision else "the working tree"
        raise ValueError(
            f"--base: a run of {where} measured other sources than those of {where}; "
            "uninstall other copies of stylebench, and change no files meanwhile"
        )


def _run(root: Path, suite: str, options: Options, output: Path) -> None:
    command = [
        sys.executable, "-m", "stylebench", "bench", suite, *_arguments(options),
        "--output", str(output),
    ]  # fmt: skip
    path = os.pathsep.join([str(root), str(root / "kernels")])
    with child_process(
        command, cwd=root, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
    ) as process:  # fmt: skip
        _, told = process.communicate()
    last = (told.strip().splitlines() or ["no message"])[-1]
    if process.returncode not in (0, _FAILED_CASES):
        raise ValueError(f"{root}: the suite {suite!r} ended with {process.returncode}: {last}")
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


def _git(repository: Path, *arguments: str) -> str:
    """The output of git, whose variables, as a hook has them, may name another repository."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments],
            capture_output=True, text=True, errors="replace", check=False, env=own,
        )  # fmt: skip
    except OSError as error:
        raise ValueError(f"--base needs git, which cannot be run: {error}") from error
    if done.returncode:
        reason = done.stderr.strip() or f"ended with {done.returncode}"
        raise ValueError(f"git {arguments[0]}: {reason}")
    return done.stdout.strip()


def _arguments(options: Options) -> list[str]:
    """``options`` as command line arguments, for a process in another folder."""
    weights = Path(options.weights)
    named = {
        "--device": options.device, "--size": options.size, "--content": options.content,
        "--style": options.style, "--weights": weights.resolve() if weights.is_file() else weights,
        "--filter": options.pattern, "--seconds": options.seconds,
    }  # fmt: skip
    pairs = [f"{name}={value}" for name, value in named.items() if value is not None]
    return ["--quick"] * options.quick + pairs

"""Choices of a run that the names of its cases do not show: weights, threads, own pictures."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import PurePath

from stylebench.bench.records.record import Case, Record

_PICTURES = ("content", "style")
_WEIGHTS = "random:0"


def overrides(record: Record, case: Case) -> tuple[str, ...]:
    """The unusual choices of a case: ``weights imagenet``, ``threads 1``, ``content a.jpg``.

    Usual are random weights, a thread a core, and drawn pictures; on a GPU threads do not matter.
    """
    unusual = []
    weights, threads = (case.parameters.get(name) for name in ("weights", "threads"))
    if weights not in (None, _WEIGHTS):
        unusual.append(f"weights {weights}")
    if threads not in (None, record.machine.cores) and record.machine.device != "cuda":
        unusual.append(f"threads {threads}")
    files = pictures(record.command).items()
    return *unusual, *(f"{name} {PurePath(file).name}" for name, file in files)


def pictures(command: str) -> dict[str, str]:
    """``content`` and ``style`` -> image files named in a record's command, where they are."""
    files = {}
    for word, following in pairwise([*_words(command), ""]):
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in _PICTURES:
            files[name] = value if equals else following
    return files


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an older record's command is not quoted
        return command.split()

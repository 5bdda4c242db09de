"""What a user may choose for a run and the names of its cases do not tell."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import PurePath

from stylebench.bench.records.record import Case, Record

_PICTURES = ("content", "style")
_WEIGHTS = "random:0"


def conditions(record: Record, case: Case) -> tuple[str, ...]:
    """What was not as usual about a case: ``weights imagenet``, ``threads 1``, ``content a.jpg``.

    Usual are random weights, a thread a core, and drawn pictures; on a GPU threads do not matter.
    """
    found = []
    weights, threads = (case.parameters.get(name) for name in ("weights", "threads"))
    if weights not in (None, _WEIGHTS):
        found.append(f"weights {weights}")
    if threads not in (None, record.machine.cores) and record.machine.device != "cuda":
        found.append(f"threads {threads}")
    own = pictures(record.command).items()
    return *found, *(f"{name} {PurePath(file).name}" for name, file in own)


def pictures(command: str) -> dict[str, str]:
    """The user's own pictures in a record's command: ``content``, ``style``, where they are."""
    found = {}
    for word, following in pairwise([*_words(command), ""]):
        name, given, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in _PICTURES:
            found[name] = value if given else following
    return found


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an older record's command is not quoted
        return command.split()

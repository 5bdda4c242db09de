"""Choices of a run that the names of its cases do not show: weights, threads, own pictures."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import PurePath

from stylebench.bench.records.record import Case, Record
from stylebench.image.examples import FILES

_PICTURES = ("content", "style")
_USUAL_WEIGHTS = "original"


def overrides(record: Record, case: Case) -> tuple[str, ...]:
    """The unusual choices of a case: ``weights imagenet``, ``threads 1``, ``content a.jpg``.

    Usual are the original weights, a thread a core, and the example pictures; on a GPU threads do
    not matter. Records before version 3 do not name pictures: theirs were drawn, or in the command.
    """
    unusual = []
    weights, threads = (case.parameters.get(name) for name in ("weights", "threads"))
    if weights not in (None, _USUAL_WEIGHTS):
        unusual.append(f"weights {weights}")
    if threads not in (None, record.machine.cores) and record.machine.device != "cuda":
        unusual.append(f"threads {threads}")
    typed = {name: PurePath(file).name for name, file in pictures(record.command).items()}
    named = {role: case.parameters.get(role, typed.get(role)) for role in FILES}
    own = ((role, name) for role, name in named.items() if name not in (None, FILES[role]))
    return *unusual, *(f"{role} {name}" for role, name in own)


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

"""What a user may choose for a run and the names of its cases do not tell."""

from __future__ import annotations

import shlex
from itertools import pairwise

_PICTURES = ("content", "style")


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

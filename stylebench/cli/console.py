"""The console: texts are printed as they are, in the characters that the terminal has."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from rich.console import Console
from rich.status import Status

from stylebench.cli.streams import ascii_only, printable


class PlainConsole(Console):
    """A console that takes no markup from file names, and draws in ASCII where need be."""

    def __init__(self, file: TextIO, *, quiet: bool = False) -> None:
        super().__init__(
            file=file, quiet=quiet, markup=False, emoji=False, highlight=False, soft_wrap=True
        )

    @property
    def encoding(self) -> str:
        """That of the terminal, by which rich chooses bars and frames."""
        return "ascii" if ascii_only(self.file) else super().encoding

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, with control characters escaped."""
        texts = (printable(one) if isinstance(one, str) else one for one in objects)
        super().print(*texts, **options)

    def status(self, status: Any, **options: Any) -> Status:
        """As rich's, with a spinner that the terminal has."""
        return super().status(
            status, **{"spinner": "line" if ascii_only(self.file) else "dots", **options}
        )


def stdout_console() -> PlainConsole:
    """The console of results."""
    return PlainConsole(sys.stdout)


def stderr_console(*, quiet: bool = False) -> PlainConsole:
    """The console of progress; ``quiet``: it says nothing."""
    return PlainConsole(sys.stderr, quiet=quiet)

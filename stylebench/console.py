"""The console: texts are printed as they are, in the characters that the terminal has."""

from __future__ import annotations

import os
import sys
from typing import IO, Any, TextIO

from rich.console import Console
from rich.status import Status
from rich.text import Text

_C_LOCALES = ("C", "POSIX")


class PlainConsole(Console):
    """A console that takes no markup from names, and draws in ASCII where need be.

    Names of files, cases and options may hold brackets, colons and control characters.
    """

    def __init__(self, file: TextIO, *, quiet: bool = False, width: int | None = None) -> None:
        super().__init__(
            file=file, quiet=quiet, width=width, markup=False, emoji=False, highlight=False,
            soft_wrap=True,
        )  # fmt: skip

    @property
    def encoding(self) -> str:
        """That of the terminal, by which rich chooses bars and frames."""
        return "ascii" if ascii_only(self.file) else super().encoding

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich's, with control characters escaped; every string that is printed comes here."""
        return super().render_str(printable(text), **options)

    def status(self, status: Any, **options: Any) -> Status:
        """As rich's, with a spinner that the terminal has; strings are plain text."""
        spinner = "line" if ascii_only(self.file) else "dots"
        return _PlainStatus(_plain(status), console=self, **{"spinner": spinner, **options})


class _PlainStatus(Status):
    """A status whose strings are plain text: rich's reads markup whatever the console says."""

    def update(self, status: Any = None, **options: Any) -> None:
        super().update(_plain(status), **options)


def stdout_console(*, width: int | None = None) -> PlainConsole:
    """The console of results; ``width``: characters of a line, if not the terminal's."""
    return PlainConsole(sys.stdout, width=width)


def stderr_console(*, quiet: bool = False) -> PlainConsole:
    """The console of progress; ``quiet``: it says nothing."""
    return PlainConsole(sys.stderr, quiet=quiet)


def ascii_only(stream: IO[str]) -> bool:
    """Whether a stream, or the terminal behind it, shows no more than ASCII."""
    if not (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf"):
        return True
    # Python takes the locale C for UTF-8, which its terminal need not.
    asked = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG")
    coerced = asked == "C.UTF-8" and os.environ.get("LANG") in _C_LOCALES
    return asked in _C_LOCALES or (coerced and not os.environ.get("LC_ALL"))


def printable(text: str) -> str:
    """``text`` with its control characters and undecodable bytes escaped, line ends aside."""
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


def _plain(status: Any) -> Any:
    return Text(printable(status)) if isinstance(status, str) else status

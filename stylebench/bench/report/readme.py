"""The README's table of results: the peers' figures and each machine's own, between two comments.

``results/peers.json`` holds the figures of other implementations, measured by hand in one run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stylebench.bench.records.store import PEERS, load_records
from stylebench.bench.report.frame import page_frame, renamed
from stylebench.bench.report.headline import headlines
from stylebench.bench.report.numbers import TIMES, figure, ratio
from stylebench.files.paths import FileError
from stylebench.files.reading import read_file, read_json
from stylebench.files.writing import atomic_path, naming_file

BEGIN = "<!-- results: written by `make report` from results/, not by hand -->"
END = "<!-- end of results -->"
NONE = "No iterations recorded yet: `stylebench bench iteration` writes the first record."

_LIMIT = 2**20  # bytes of a README, or of a file of peers
_Row = tuple[str, str, str, str]
_HEADINGS = ("implementation", "s an iteration", "against the fastest peer",
             "against our reference")  # fmt: skip
_OWN = (
    "Rows with a link are machines' own records: one process, the original weights unless stated, "
    "against the reference engine of the same record."
)


def rewrite_readme(readme: Path, paths: Sequence[str | Path]) -> Path:
    """Put the table of the results below ``paths`` between the two comments of ``readme``.

    Raises:
        FileNotFoundError: ``readme`` or a path does not exist.
        ValueError: the comments are not there, ``peers.json`` is not as expected, or ``readme``
            cannot be written.
    """
    before, _, after = split_readme(readme)
    text = f"{before}{BEGIN}\n{results_table(paths, readme.parent)}\n{END}{after}"
    with naming_file(readme, "the table of results"), atomic_path(readme) as partial:
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))
    return readme


def split_readme(readme: Path) -> tuple[str, str, str]:
    """The text before the first comment, between the two, and after the second.

    Raises:
        FileError: no ordinary file, or of more than 1 MiB.
        ValueError: the comments are not there, or the text is not UTF-8.
    """
    try:
        text = read_file(readme, _LIMIT, "a README").decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{readme}: expected a text in UTF-8 ({error})") from error
    before, begin, rest = text.partition(BEGIN)
    between, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme}: expected the lines {BEGIN!r} and {END!r}")
    return before, between.strip("\n"), after


def results_table(paths: Sequence[str | Path], folder: Path) -> str:
    """The table in Markdown below its conditions, with links relative to ``folder``.

    Rows are those of ``peers.json``, then the fused engine's best case on each machine that has a
    record of iterations.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: ``peers.json`` is not as expected.
    """
    peers = [_peers(file, folder) for path in paths if (file := Path(path) / PEERS).is_file()]
    frame = page_frame(renamed(load_records(*paths)[0]))
    own = [_of_machine(best, folder) for best in headlines(frame).values() if best]
    if not peers and not own:
        return NONE
    above = [conditions for conditions, _ in peers] + [_OWN] * bool(own)
    rows = [_HEADINGS, ("---", *("---:",) * 3), *(row for _, rows in peers for row in rows), *own]
    return "\n".join([" ".join(above), "", *(f"| {' | '.join(row)} |" for row in rows)])


def _peers(path: Path, folder: Path) -> tuple[str, list[_Row]]:
    """The conditions of a file of peers in a sentence, and its rows."""
    try:
        data = read_json(path, _LIMIT, "a file of peers")
        told = [_cell(data[name]) for name in ("machine", "conditions", "method")]
        rows = [(row["implementation"], row["kind"], float(row["seconds"])) for row in data["rows"]]
        if not all(0 < seconds < inf for *_, seconds in rows):
            raise ValueError("seconds that are not above 0")  # noqa: TRY301
        peer = min(seconds for _, kind, seconds in rows if kind == "peer")
        reference = next(seconds for _, kind, seconds in rows if kind == "reference")
        lines = [
            (_cell(name), figure(seconds), _times(peer / seconds), _times(reference / seconds))
            for name, _, seconds in rows
        ]
    except FileError:
        raise
    except (
        LookupError, TypeError, ValueError, ArithmeticError, AttributeError, StopIteration,
    ) as error:  # fmt: skip
        what = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path}: expected machine, conditions, method, and rows of implementation, kind "
            f"(peer, reference or ours) and seconds, with a peer and a reference ({what})"
        ) from error
    return f"{'; '.join(told)} ([figures]({_relative(path, folder)})).", lines


def _of_machine(row: dict[str, Any], folder: Path) -> _Row:
    link = f"[{_cell(row['machine'])}]({_relative(Path(row['path']), folder)})"
    quick = "quick run" if row["quick"] else ""
    words = (row["size"], row["history"] or row["optimizer"], row["overrides"], quick)
    where = ", ".join([f"on {link}", *map(_cell, filter(None, words))])
    faster = _times(row["faster"]) if row["faster"] > 0 else "-"
    return f"stylebench {_cell(row['label'])} {where}", figure(row["seconds"]), "-", faster


def _relative(path: Path, folder: Path) -> str:
    relative = os.path.relpath(path.resolve(), folder.resolve()).replace(os.sep, "/")
    return quote(os.fsencode(relative), safe="/")  # neither a space nor a bracket ends the link


def _times(value: float) -> str:
    return ratio(value).replace(TIMES, "x")


def _cell(text: str) -> str:
    """Text that Markdown shows as it is: no cell, link, address, emphasis, code or HTML.

    Within a line every punctuation character may have a backslash before it. Those that mean
    nothing without others, or only at a line's beginning, are left as they are.
    """
    text = " ".join(text.replace(TIMES, "x").split())
    text = "".join(character for character in text if character.isprintable())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\|\[\]`*_~!:@#$])", r"\\\1", text)
    return re.sub(r"\bwww\.", r"www\\.", text, flags=re.IGNORECASE)

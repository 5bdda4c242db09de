"""The pictures of a run as they are typed: files, a folder of styles, ``-`` for standard input."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stylebench.cli.pipes import PIPE, STDIN_FILE, read_stdin
from stylebench.files.paths import expand, special_kind
from stylebench.image.decode import longest_side
from stylebench.image.folder import pictures_in, visible
from stylebench.image.load import Picture

_MOST_NAMED = 3  # files of a folder that are no pictures


@dataclass(frozen=True)
class TypedInputs:
    """The pictures of a run.

    Attributes:
        content: a file, or the picture on standard input.
        styles: likewise, one or more; a folder is all the pictures in it.
        files: those behind them, by what they are: ``the content``.
    """

    content: Path | Picture
    styles: list[Path | Picture]
    files: Mapping[str, Sequence[Path]]

    def longest_side(self) -> int:
        """The content's, in pixels."""
        content = self.content
        return max(content.size) if isinstance(content, Picture) else longest_side(content)


def typed_inputs(content: Path, styles: Sequence[Path]) -> TypedInputs:
    """The pictures of a run; the one on standard input is read.

    Raises:
        ValueError: standard input is meant twice, is a terminal, or holds no picture; a folder of
            styles has none.
    """
    sources, files = _from_stdin([content, *with_folders(styles)])
    return TypedInputs(sources[0], sources[1:], {"the content": files[:1], "a style": files[1:]})


def typed_styles(styles: Sequence[Path]) -> tuple[list[Path | Picture], list[Path]]:
    """The style images of a run without a content, and the files behind them.

    Raises:
        ValueError: as ``typed_inputs``.
    """
    return _from_stdin(with_folders(styles))


def _from_stdin(paths: Sequence[Path]) -> tuple[list[Path | Picture], list[Path]]:
    """``paths`` with the picture on standard input in place of ``-``, and the files of all."""
    if paths.count(PIPE) > 1:
        raise ValueError(
            f"- is {paths.count(PIPE)} of the pictures, and standard input holds one: expected the "
            "others by their file names"
        )
    piped = read_stdin() if PIPE in paths else None
    sources = [piped if piped and path == PIPE else path for path in paths]
    return sources, [STDIN_FILE if path == PIPE else path for path in paths]


def with_folders(styles: Sequence[Path]) -> list[Path]:
    """``styles`` with a folder's pictures in its place; one line tells what else is in it.

    Raises:
        FileError: a folder has no pictures, or cannot be read.
    """
    files: list[Path] = []
    for style in map(expand, styles):
        if special_kind(style) != "a folder":
            files.append(style)
            continue
        pictures = pictures_in(style)
        _tell_of_others(style, pictures)
        files += pictures
    return files


def _tell_of_others(folder: Path, pictures: Sequence[Path]) -> None:
    others = sorted(path.name for path in set(visible(folder)) - set(pictures))
    if others:
        more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        warnings.warn(
            f"{folder}: left out, since they are no pictures: {', '.join(others[:_MOST_NAMED])}"
            f"{more}",
            stacklevel=2,
        )

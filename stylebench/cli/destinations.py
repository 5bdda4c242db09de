"""The files that a run writes: checked before any work, and never one that it reads."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stylebench.cli.pipes import PIPE, check_stdout
from stylebench.cli.previews import Previews
from stylebench.files.paths import FileError, exists, expand, same_file
from stylebench.files.writing import check_folder, check_writable
from stylebench.image.save import check_bit_depth, check_output
from stylebench.watch.film import Film

PICTURES = ("the content", "a style", "a mask", "the init")


@dataclass(frozen=True)
class Destinations:
    """The outputs of a run.

    Attributes:
        output: of the picture; ``-`` is standard output.
        bit_depth: of the picture.
        losses: of the loss history, or None.
        checkpoint: of the checkpoints, or None.
        previews: of the pictures on the way.
        film: of the whole run, or None.
        stdout: the descriptor of standard output, where the picture goes there.
    """

    output: Path
    bit_depth: int
    losses: Path | None
    checkpoint: Path | None
    previews: Previews
    film: Film | None = None
    stdout: int | None = None

    @property
    def is_stdout(self) -> bool:
        """Whether the picture goes to standard output."""
        return self.output == PIPE

    @property
    def named(self) -> dict[str, Path]:
        """The files by their options."""
        files = {
            "-o": None if self.is_stdout else self.output,
            "--losses": self.losses,
            "--checkpoint": self.checkpoint,
            "--video": self.film and self.film.path,
        }
        return {option: path for option, path in files.items() if path}

    @property
    def sync_every(self) -> int:
        """Iterations after each multiple of which the image itself is needed; 0: never.

        A film looks at every one, so that it is the same film however fast the device is.
        """
        return 1 if self.film else self.previews.every


def check_destinations(
    wanted: Destinations,
    inputs: Mapping[str, Sequence[Path]],
    resume: Path | None,
    longest: int,
    overwrite: bool,
) -> Destinations:
    """Return ``wanted``, with ``~`` expanded, if all of it can be written and destroys nothing.

    Args:
        wanted: as typed.
        inputs: the files that the run reads, by what they are: ``the content``.
        resume: the checkpoint that the run goes on from, which its own may replace.
        longest: the picture's longest side in pixels.
        overwrite: the picture may replace an input picture, and checkpoints and previews files of
            other runs.

    Raises:
        FileError: naming the option, the file, and what is in the way.
    """
    checked = Destinations(
        _checked_output(wanted, longest),
        wanted.bit_depth,
        wanted.losses and check_writable(wanted.losses),
        wanted.checkpoint and check_writable(wanted.checkpoint),
        wanted.previews,
        wanted.film and wanted.film.checked(),
    )
    read = {what: [expand(path) for path in paths] for what, paths in inputs.items()}
    resumed = expand(resume) if resume else None
    _check_each_has_its_own(checked)
    _check_inputs_stay(checked, read, resumed, overwrite)
    if checked.checkpoint and not overwrite:
        _check_no_other_run(checked.checkpoint, resumed)
    taken = [*checked.named.values(), *(path for paths in read.values() for path in paths)]
    checked.previews.check(taken, goes_on=resumed is not None)
    return checked


def check_folder_of(folder: Path, names: Sequence[str], inputs: Sequence[Path] = ()) -> Path:
    """Return ``folder``, with ``~`` expanded, if a command may write its files into it.

    A folder that holds all of them is of an earlier call, which they may replace. One that holds
    some of them is the user's.

    Args:
        folder: as typed; nothing is made.
        names: of the files.
        inputs: files that the command reads.

    Raises:
        FileError: naming the file that is in the way.
    """
    folder = check_folder(folder)
    there = [check_writable(folder / name) for name in names if exists(folder / name)]
    for path in there:
        if any(same_file(path, expand(one)) for one in inputs):
            raise FileError(f"{path}: is an input, and would be replaced; take another --output")
    if there and len(there) < len(names):
        raise FileError(
            f"{there[0]}: exists, and may be of another kind than what is written here; take "
            "another --output, or remove it"
        )
    return folder


def _checked_output(wanted: Destinations, longest: int) -> Path:
    if not wanted.is_stdout:
        return check_output(wanted.output, wanted.bit_depth, longest)
    check_bit_depth(wanted.bit_depth)
    if wanted.previews.every:
        raise FileError(
            f"--preview-every {wanted.previews.every}: previews are named after the picture's "
            "file, and -o - has none; give -o a name, or drop it"
        )
    check_stdout()
    return wanted.output


def _check_each_has_its_own(checked: Destinations) -> None:
    options = list(checked.named.items())
    for index, (option, path) in enumerate(options):
        for other, second in options[:index]:
            if same_file(path, second):
                raise FileError(f"{other} and {option} are one file, {path}: give each its own")


def _check_inputs_stay(
    checked: Destinations, read: Mapping[str, Sequence[Path]], resume: Path | None, overwrite: bool
) -> None:
    for option, path in checked.named.items():
        for what in _same(path, read):
            if option == "-o" and what in PICTURES:
                if overwrite:
                    continue
                raise FileError(f"-o {path}: is {what}; take another name, or add --overwrite")
            raise FileError(f"{option} {path}: is {what}; take another name")
        if resume and option != "--checkpoint" and same_file(path, resume):
            raise FileError(f"{option} {path}: is the file of --resume; take another name")


def _same(path: Path, read: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    return (what for what, paths in read.items() if any(same_file(path, one) for one in paths))


def _check_no_other_run(path: Path, resume: Path | None) -> None:
    mine = resume is not None and same_file(path, resume)
    if not mine and exists(path) and path.stat().st_size:
        raise FileError(
            f"--checkpoint {path}: exists, and may be of another run; go on from it with --resume "
            f"{shlex.quote(os.fspath(path))}, take another name, or add --overwrite"
        )

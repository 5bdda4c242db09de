"""Pictures on the way: ``OUT-00050.png`` and so on, which replace no file of another run."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stylebench.files.paths import FileError, same_file
from stylebench.files.writing import check_writable, naming_file

if TYPE_CHECKING:
    from stylebench.watch.step import Step

_LONGEST_NAME = 255  # bytes, of every file system in use
_LONGEST_END = len("-0000000.png")


@dataclass
class Previews:
    """The previews of one run.

    Attributes:
        output: the picture's path; previews lie beside it.
        every: iterations between two; 0: there are none.
        overwrite: they may replace those of other runs.
    """

    output: Path
    every: int
    overwrite: bool = False
    _made: set[Path] = field(default_factory=set)

    def check(self, taken: Iterable[Path], goes_on: bool) -> None:
        """Refuse names that are taken.

        Args:
            taken: files that the run reads or writes otherwise.
            goes_on: the run goes on from a checkpoint, and so may find its own previews.

        Raises:
            FileError: naming the file, which is of another run, or cannot be replaced.
        """
        if not self.every:
            return
        if len(os.fsencode(self.output.stem)) + _LONGEST_END > _LONGEST_NAME:
            raise FileError(f"-o {self.output}: is too long a name to number previews by")
        there = self._existing()
        for path in taken:
            if self._is_one(path) or any(same_file(path, one) for one in there):
                raise FileError(
                    f"--preview-every {self.every}: a preview would be {path}, which this run uses "
                    "otherwise; take another -o"
                )
        if there and not self.overwrite and not goes_on:
            more = f" and {len(there) - 1} more exist" if there[1:] else " exists"
            raise FileError(
                f"--preview-every {self.every}: {there[0]}{more}, and may be of another run; take "
                "another -o, or add --overwrite"
            )
        for path in there if self.overwrite else ():
            check_writable(path)

    def save(self, step: Step) -> None:
        """Write the current image where one is due; a file of another run stays.

        Raises:
            FileError: it cannot be written.
        """
        if not self.every or step.iteration % self.every:
            return
        from stylebench.image.save import save_picture

        path = self.output.with_name(f"{self.output.stem}-{step.iteration:05d}.png")
        if os.path.lexists(path) and path not in self._made and not self.overwrite:
            warnings.warn(f"{path}: exists already, and stays as it is", stacklevel=2)
            return
        with naming_file(path, "the preview"):
            save_picture(path, step.picture())
        self._made.add(path)

    def _existing(self) -> list[Path]:
        return sorted(path for path in self.output.parent.iterdir() if self._is_name(path.name))

    def _is_one(self, path: Path) -> bool:
        return self._is_name(path.name) and same_file(path.parent, self.output.parent)

    def _is_name(self, name: str) -> bool:
        match = re.fullmatch(rf"{re.escape(self.output.stem)}-(\d{{5,}})\.png", name, re.ASCII)
        return match is not None and int(match[1]) > 0 and int(match[1]) % self.every == 0

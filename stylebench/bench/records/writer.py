"""Writer of a run's record and pictures below a folder of results, which keeps others' intact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

from stylebench.bench.records.overrides import overrides
from stylebench.bench.records.record import Case, Record
from stylebench.bench.records.store import file_name, read_or_none, write_record
from stylebench.files.paths import expand
from stylebench.files.scratch import scratch_folder

_PICTURES = ".pictures-"  # a run's, until its record is there


class RecordWriter:
    """Writes one run's record, as often as it grows.

    Attributes:
        folder: for this run's pictures, until they are moved beside the record; it stays there.
    """

    def __init__(self, output: Path, folder: Path, begun: Path | None) -> None:
        self.folder = folder
        self._output, self._path = output, begun

    def write(self, record: Record) -> tuple[Path, Record]:
        """Write ``record``, and its pictures into a folder beside it, named like it.

        It takes the place of an earlier record of the same name only where it has every case of
        that one; otherwise a number behind its name tells the two apart.
        """
        path = next(path for path in self._places(record) if self._may_take(path, record))
        before = self._path if self._path != path and self._owns(self._path, record) else None
        if before:
            _move(before.with_suffix(""), path.with_suffix(""))
            with suppress(OSError):  # there was none, or something else is in it
                before.with_suffix("").rmdir()
        _move(self.folder, path.with_suffix(""))
        cases = [_with_pictures_in(path.stem, case) for case in record.cases]
        self._path = write_record(path, replace(record, cases=cases))
        if before:
            before.unlink(missing_ok=True)
        return path, replace(record, cases=cases)

    def _places(self, record: Record) -> Iterator[Path]:
        return (self._output / file_name(record, number) for number in count(1))

    def _may_take(self, path: Path, record: Record) -> bool:
        """Whether nothing is at ``path``, or this run so far, or nothing that it lacks."""
        if not path.exists() or self._owns(path, record):
            return True
        other = read_or_none(path)  # None: of a later version, or broken, and not ours to replace
        return other is not None and _has_all(record, other)

    def _owns(self, path: Path | None, record: Record) -> bool:
        """Whether ``path`` holds this run so far, and no other run has taken the place since."""
        other = read_or_none(path) if path and path == self._path else None
        return other is not None and other.started == record.started


@contextmanager
def open_writer(output: Path, slug: str, begun: Path | None = None) -> Iterator[RecordWriter]:
    """A writer below ``output`` for a run on the machine ``slug``; fails before the run, not after.

    Args:
        output: folder of results, made where it is missing.
        slug: of the machine.
        begun: the record that the run goes on with, which it may replace.

    Raises:
        ValueError: nothing can be written there.
    """
    own = expand(output) / slug
    ours = begun if begun and begun.resolve().parent == own.resolve() else None
    with ExitStack() as stack:
        try:
            own.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(scratch_folder(_PICTURES, own))
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(f"--output {output}: cannot be written ({reason})") from error
        yield RecordWriter(own.parent, folder, ours and own / ours.name)


def _has_all(record: Record, other: Record) -> bool:
    """Whether each case of ``other`` is in ``record``, and not with less than a result."""
    ours = {_key(record, case): case.status == "ok" for case in record.cases}
    needed = ((_key(other, case), case.status == "ok") for case in other.cases)
    return all(key in ours and ours[key] >= good for key, good in needed)


def _key(record: Record, case: Case) -> tuple[str, tuple[str, ...]]:
    return case.name, overrides(record, case)


def _move(source: Path, target: Path) -> None:
    """Move the pictures in ``source``, if any, into ``target``."""
    if not source.is_dir():
        return
    for picture in source.iterdir():
        target.mkdir(parents=True, exist_ok=True)
        picture.replace(target / picture.name)


def _with_pictures_in(folder: str, case: Case) -> Case:
    pictures = {key: f"{folder}/{Path(name).name}" for key, name in case.pictures.items()}
    return replace(case, pictures=pictures)

"""Records in files: written atomically, read strictly, gathered into one tidy frame."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stylebench.bench.records.record import VERSION, Record
from stylebench.files.from_dict import FieldError, from_dict
from stylebench.files.paths import FileError, expand
from stylebench.files.reading import read_json
from stylebench.files.writing import atomic_path

if TYPE_CHECKING:
    import pandas as pd

#: A file beside the machines' folders that is no record: figures of other implementations.
PEERS = "peers.json"

#: Version -> function from a record of that version, as parsed JSON, to one of the next.
MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda old: {**old, "version": 2},  # which adds what may be absent
    2: lambda old: {**old, "version": 3},  # whose cases name more of their parameters
}


_LIMIT = 64 * 2**20  # bytes of a record's file; the longest so far has a hundredth
_FAR = 1e60  # beyond all measurements, and their products and ratios stay finite


class RecordError(ValueError):
    """A file that is not a record; the message names the file and the fault."""


@dataclass(frozen=True)
class Stored:
    """A record and the file that holds it."""

    path: Path
    record: Record


def write_record(path: Path, record: Record) -> Path:
    """Write ``record`` as JSON, atomically, making folders as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        partial.write_text(as_text(record), "utf-8")
    return path


def as_text(record: Record) -> str:
    """``record`` as JSON, a file's whole content."""
    return json.dumps(asdict(record), indent=1, allow_nan=False) + "\n"


def file_name(record: Record, number: int = 1) -> str:
    """``nvidia-h200/2026-03-14-iteration.json``, below the folder of all results.

    Args:
        record: of which only machine, day, suite and shortness are in the name.
        number: from 2 on it is there too, as ``-2``.
    """
    quick, behind = "-quick" if record.quick else "", f"-{number}" if number > 1 else ""
    return f"{record.machine.slug}/{record.started[:10]}-{record.suite}{quick}{behind}.json"


def read_record(path: Path) -> Record:
    """Read one file, of this version of the schema or an older one.

    Raises:
        RecordError: no ordinary file of 64 MiB at most, not JSON, not a record, or of a version
            that is not known.
    """
    try:
        data = read_json(path, _LIMIT, "a record")
    except FileError as error:
        raise RecordError(str(error)) from error
    if not isinstance(data, dict) or type(data.get("version")) is not int:
        raise RecordError(f"{path}: is no record: it has no version")
    data = _migrated(data, path)
    try:
        record: Record = from_dict(Record, data)
    except FieldError as error:
        raise RecordError(f"{path}: {error}") from error
    for number in _floats(data):
        if number and not 1 / _FAR < abs(number) < _FAR:
            raise RecordError(f"{path}: {number} is no measurement: neither 0 nor within 1e±60")
    return record


def _floats(data: Any) -> Iterator[float]:
    if isinstance(data, float):
        yield data
    elif isinstance(data, dict | list):
        for part in data.values() if isinstance(data, dict) else data:
            yield from _floats(part)


def read_or_none(path: Path) -> Record | None:
    """The record at ``path``; None where there is none, or none that can be read here."""
    try:
        return read_record(path)
    except RecordError:
        return None


def _migrated(data: dict[str, Any], path: Path) -> dict[str, Any]:
    while (version := data["version"]) != VERSION:
        if version not in MIGRATIONS:
            raise RecordError(
                f"{path}: is of version {version}; this stylebench reads up to {VERSION}"
            )
        try:
            newer = MIGRATIONS[version](data)
            data = {**newer, "version": newer["version"]}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise RecordError(f"{path}: is no record of version {version} ({reason})") from error
    return data


def load_records(*paths: str | Path) -> tuple[list[Stored], list[str]]:
    """Every record among the files and folders given, oldest first, and what could not be read.

    A broken file is never fatal: it is left out, and one line of the second list names it.

    Raises:
        FileNotFoundError: a path does not exist.
    """
    found, faults = [], []
    for path in _files(paths):
        try:
            found.append(Stored(path, read_record(path)))
        except RecordError as error:
            faults.append(str(error))
    return sorted(found, key=lambda stored: (stored.record.started, str(stored.path))), faults


def _files(paths: Iterable[str | Path]) -> list[Path]:
    files: dict[Path, None] = {}
    for path in map(expand, paths):
        try:
            path.lstat()
        except (OSError, ValueError) as error:
            raise FileNotFoundError(f"{path}: no such file or folder of records") from error
        files.update(dict.fromkeys(_below(path) if path.is_dir() else [path]))
    return list(files)


def _below(folder: Path) -> list[Path]:
    """The files below ``folder`` that may be records; links to folders are not followed."""
    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(".json") and name != PEERS
    )


_FIGURES = ("status", "peak_bytes", "roof_share", "flops", "bytes")
_TIMING = ("median", "q1", "q3", "spread", "samples")
_SETUP = ("build", "first", "capture")
#: Columns that a frame of results always has, also without a record.
_COLUMNS = (
    "suite", "machine", "device", "started", "quick", "commit", "torch", "path", "case", "status",
    *_TIMING, "rate", "parity", "peak_bytes", "roof_share", "flops", "bytes", *_SETUP,
)  # fmt: skip


def load_results(*paths: str | Path) -> pd.DataFrame:
    """One row a case, from every record below ``paths``; broken files are named in a warning.

    Columns: suite, machine, device, started, quick, commit, torch, path, case, status; then
    ``median``, ``q1``, ``q3``, ``spread`` (s), ``samples``, ``rate`` (1 / s), ``parity`` (whether
    it passed), ``peak_bytes``, ``roof_share``, ``flops``, ``bytes``, ``build``, ``first``,
    ``capture`` (s); every parameter and every value under its own name.
    """
    import warnings

    stored, faults = load_records(*paths)
    for fault in faults:
        warnings.warn(f"left out: {fault}", stacklevel=2)
    return results_frame(stored)


def results_frame(stored: Iterable[Stored]) -> pd.DataFrame:
    """The frame of ``load_results`` from records already read, one row a case in their order."""
    import pandas as pd

    rows = [row for one in stored for row in _rows(one)]
    columns = dict.fromkeys([*_COLUMNS, *(name for row in rows for name in row)])
    return pd.DataFrame(rows, columns=list(columns))


def _rows(stored: Stored) -> list[dict[str, Any]]:
    record = stored.record
    run = {
        "suite": record.suite,
        "machine": record.machine.name,
        "device": record.machine.device,
        "started": record.started,
        "quick": record.quick,
        "commit": record.code.commit,
        "torch": record.software.torch,
        "path": str(stored.path),
    }
    rows = []
    for case in record.cases:
        # None first: no parameter passes for a time.
        figures = dict.fromkeys((*_TIMING, "rate", *_SETUP), None)
        figures |= {name: getattr(case, name) for name in _FIGURES}
        figures |= {"case": case.name, "parity": case.parity and case.parity.passed}
        if case.timing is not None:
            timing = case.timing
            figures |= {name: getattr(timing, name) for name in _TIMING}
            figures["rate"] = 1 / timing.median
        if case.setup is not None:
            figures |= asdict(case.setup)
        rows.append({**case.parameters, **case.values, **run, **figures})
    return rows

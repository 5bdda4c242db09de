"""The records behind the page: machine, software, code, command, and every sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stylebench.bench.records.record import Case, Machine, Record, State
from stylebench.bench.records.store import Stored
from stylebench.bench.report.numbers import percent, si
from stylebench.bench.report.tables import Cell, commit, verdict

Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class Measured:
    """One case of a record, with its samples in the order taken."""

    anchor: str
    name: str
    parity: Cell
    note: str
    timing: str
    samples: str


@dataclass(frozen=True)
class Source:
    """One record."""

    anchor: str
    file: str
    suite: str
    date: str
    commit: str
    remarks: str
    command: str
    machine: Facts
    software: Facts
    run: Facts
    cases: list[Measured]


def sources(stored: Sequence[Stored]) -> list[Source]:
    """One a record, in the order given; anchors are those that rows lead to."""
    return [_source(each, f"record-{index}") for index, each in enumerate(stored)]


def _source(stored: Stored, anchor: str) -> Source:
    record = stored.record
    remarks = ["quick run"] * record.quick + ["cut short"] * (not record.complete)
    return Source(
        anchor,
        stored.path.as_posix(),
        record.suite,
        record.started[:10],
        commit(record),
        ", ".join(remarks),
        record.command,
        _machine(record.machine),
        _software(record),
        _run(record),
        [_measured(case, f"{anchor}-{index}") for index, case in enumerate(record.cases)],
    )


def _filled(pairs: Iterable[tuple[str, object]]) -> Facts:
    return [(name, str(value)) for name, value in pairs if value not in (None, "")]


def _machine(machine: Machine) -> Facts:
    def size(count: int | None) -> str:
        return si(count, "B") if count else ""

    return _filled(
        [
            ("name", machine.name),
            ("device", machine.device),
            ("processor", machine.cpu),
            ("cores", machine.cores),
            ("instructions", " ".join(machine.instructions)),
            ("memory", size(machine.memory_bytes)),
            ("GPU", machine.gpu),
            ("GPU memory", size(machine.gpu_memory_bytes)),
            ("multiprocessors", machine.multiprocessors),
            ("capability", machine.capability),
            ("L2", size(machine.l2_bytes)),
            ("power limit", si(machine.power_limit_w, "W") if machine.power_limit_w else ""),
            ("before", _state(machine.before)),
            ("after", _state(machine.after)),
        ]
    )


def _state(state: State) -> str:
    readings = (
        (state.clock_mhz, "MHz"),
        (state.memory_clock_mhz, "MHz memory"),
        (state.temperature_c, "\N{DEGREE SIGN}C"),
        (state.power_w, "W"),
        (state.load, "load a core"),
    )
    words = [f"{value:,.4g} {unit}" for value, unit in readings if value is not None]
    return ", ".join(words + [f"throttled: {reason}" for reason in state.throttle])


def _software(record: Record) -> Facts:
    fields = ("stylebench", "torch", "triton", "cuda", "cudnn", "driver", "python", "os")
    return _filled((name, getattr(record.software, name)) for name in fields)


def _run(record: Record) -> Facts:
    return _filled(
        [
            ("started", record.started),
            ("took", si(record.seconds, "s")),
            ("commit", record.code.commit),
            ("changes", "uncommitted" if record.code.dirty else ""),
            ("sources", f"sha256 {record.code.sha256[:16]}"),
            ("schema", record.version),
        ]
    )


def _measured(case: Case, anchor: str) -> Measured:
    timing, words, samples = case.timing, "", ""
    if timing:
        words = (
            f"{si(timing.median, 's')} (quartiles {si(timing.q1, 's')} to {si(timing.q3, 's')}), "
            f"\N{PLUS-MINUS SIGN} {percent(timing.spread)}, {len(timing.samples)} samples"
            + (f" of {timing.per_sample}" if timing.per_sample > 1 else "")
            + f" by {timing.clock}"
            + (f", {len(timing.disturbed)} disturbed" if timing.disturbed else "")
        )
        samples = " ".join(f"{sample:.5g}" for sample in timing.samples)
    note = (case.note or "") if case.status == "ok" else ""  # the verdict holds it otherwise
    return Measured(anchor, case.name, verdict(case), note, words, samples)

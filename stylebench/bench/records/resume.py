"""``bench --resume`` refuses a record made by other settings, code or machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stylebench.bench.records.overrides import pictures
from stylebench.bench.records.record import Case, Machine, Record, Value

_SHARED = ("weights", "weights_sha256", "content", "style", "threads", "width", "height")

Difference = tuple[str, object, object]


def check_resumable(before: Record, run: Record, cases: Mapping[str, Mapping[str, Value]]) -> None:
    """Refuse to put cases of two different runs into one record.

    Args:
        before: the record to resume.
        run: the record of this run so far.
        cases: name -> parameters of all cases of this run, whether wanted or not.

    Raises:
        ValueError: ``before`` is complete, or differs; the message names the first difference.
    """
    if before.complete:
        raise ValueError("--resume: the record is complete; leave --resume out to measure anew")
    for name, old, new in _differences(before, run, cases):
        raise ValueError(
            f"--resume: {name} was {old or 'none'} in the record and is {new or 'none'} now; "
            "go on as it began, or leave --resume out"
        )


def _differences(
    before: Record, run: Record, cases: Mapping[str, Mapping[str, Value]]
) -> Iterator[Difference]:
    old, new = _facts(before), _facts(run)
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)
    for case in before.cases:
        yield from _in_case(case, cases.get(case.name))


def _facts(record: Record) -> dict[str, object]:
    """The facts that all cases of a record share."""
    files = pictures(record.command)
    return {
        "the suite": record.suite,
        "--quick": "given" if record.quick else "not given",
        **_identity(record.machine),
        "the hash of the sources": record.code.sha256[:16],
        "torch": record.software.torch,
        "--content": files.get("content"),
        "--style": files.get("style"),
    }


def _identity(machine: Machine) -> dict[str, object]:
    facts: dict[str, object] = {
        "the machine": machine.slug,
        "the device": machine.device,
        "the GPU": machine.gpu,
    }
    if machine.device == "cuda":  # whose host may be another at the next loan
        return facts
    return {**facts, "the processor's instructions": " ".join(machine.instructions)}


def _in_case(case: Case, new: Mapping[str, Value] | None) -> Iterator[Difference]:
    if new is None:
        yield "the list of cases", f"one with {case.name!r}", "one without it (another --size?)"
        return
    old = case.parameters
    for name in _SHARED:
        if name in old and name in new and old[name] != new[name]:
            yield f"{name} of {case.name!r}", old[name], new[name]

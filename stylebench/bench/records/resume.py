"""An unfinished record is gone on with only by a run that would have made the same one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stylebench.bench.records.overrides import pictures
from stylebench.bench.records.record import Case, Machine, Record, Value

_SHARED = ("weights", "threads", "width", "height")

Difference = tuple[str, object, object]


def check_resumable(before: Record, run: Record, cases: Mapping[str, Mapping[str, Value]]) -> None:
    """Refuse to put cases of two different runs into one record.

    Args:
        before: what is to be gone on with.
        run: the record of this run, whatever it holds yet.
        cases: name -> parameters of all that this run has, whether wanted or not.

    Raises:
        ValueError: ``before`` is complete, or differs; the message names the first difference.
    """
    if before.complete:
        raise ValueError("--resume: the record is complete; leave --resume out to measure anew")
    for what, there, here in _differences(before, run, cases):
        raise ValueError(
            f"--resume: {what} was {there or 'none'} in the record and is {here or 'none'} now; "
            "go on as it began, or leave --resume out"
        )


def _differences(
    before: Record, run: Record, cases: Mapping[str, Mapping[str, Value]]
) -> Iterator[Difference]:
    there, here = _facts(before), _facts(run)
    for what in {**there, **here}:
        if there.get(what) != here.get(what):
            yield what, there.get(what), here.get(what)
    for case in before.cases:
        yield from _in_case(case, cases.get(case.name))


def _facts(record: Record) -> dict[str, object]:
    """What all cases of a record have in common."""
    own = pictures(record.command)
    return {
        "the suite": record.suite,
        "--quick": "given" if record.quick else "not given",
        **_identity(record.machine),
        "the hash of the sources": record.code.sha256[:16],
        "torch": record.software.torch,
        "--content": own.get("content"),
        "--style": own.get("style"),
    }


def _identity(machine: Machine) -> dict[str, object]:
    own: dict[str, object] = {
        "the machine": machine.slug,
        "the device": machine.device,
        "the GPU": machine.gpu,
    }
    if machine.device == "cuda":  # whose host may be another at the next loan
        return own
    return {**own, "the processor's instructions": " ".join(machine.instructions)}


def _in_case(case: Case, here: Mapping[str, Value] | None) -> Iterator[Difference]:
    if here is None:
        yield "the list of cases", f"one with {case.name!r}", "one without it (another --size?)"
        return
    for name in _SHARED:
        there = case.parameters
        if name in there and name in here and there[name] != here[name]:
            yield f"{name} of {case.name!r}", there[name], here[name]

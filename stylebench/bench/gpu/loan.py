"""All that a short loan of a GPU should do: ``python -m stylebench.bench.gpu``.

    PYTHONPATH=.:kernels python -m stylebench.bench.gpu --output OUT
    PYTHONPATH=.:kernels python -m stylebench.bench.gpu --output OUT2 --resume OUT/records.tar.gz

Runs correctness tests, the tuner and all suites within ``--minutes``. The next call skips finished
stages and cases. OUT gets three files: records.tar.gz with records, pictures, tuned configurations,
logs and the state; summary.txt; state.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from stylebench.bench.gpu.stages import Stage, run_stage, stages
from stylebench.bench.records.show import summary
from stylebench.bench.records.store import read_or_none
from stylebench.files.writing import atomic_path

_ARCHIVE, _STATE, _SUMMARY = "records.tar.gz", "state.json", "summary.txt"
_LINES = 100  # of the summary
_LEAST = 30.0  # s left under which no stage is started
_TRIES = 3  # of a stage that does not finish


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        sys.stderr.write("stylebench.bench.gpu: there is no CUDA GPU here; --rehearse needs none\n")
        return 2
    chosen = _chosen(stages(options.rehearse, options.quick), options.stages)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        _unpack(options.resume or options.output / _ARCHIVE, work, asked=options.resume is not None)
        _run(chosen, work, options.output, time.monotonic() + 60 * options.minutes)
        lines = _summary(work)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stylebench.bench.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--resume", type=Path, help=f"an earlier call's {_ARCHIVE}")
    parser.add_argument("--minutes", type=float, default=9.0, help="that the call may take")
    parser.add_argument("--quick", action="store_true", help="the suites' short forms")
    parser.add_argument("--stages", help="some of them, by name, with commas between")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at tiny sizes")
    return parser


def _chosen(known: Sequence[Stage], names: str | None) -> list[Stage]:
    if names is None:
        return list(known)
    table = {stage.name: stage for stage in known}
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in table]:
        raise SystemExit(f"unknown stages {', '.join(unknown)}: expected {', '.join(table)}")
    return [table[name] for name in wanted]


def _run(chosen: Sequence[Stage], work: Path, output: Path, deadline: float) -> None:
    """Run the stages that are not finished, keeping everything after each."""
    state = _read_state(work)
    for stage in chosen:
        entry = state.setdefault(stage.name, {"verdict": "unfinished", "tries": 0, "seconds": 0.0})
        left = deadline - time.monotonic()
        if entry["verdict"] != "unfinished" or entry["tries"] >= _TRIES or left < _LEAST:
            continue
        sys.stdout.write(f"{stage.name} ...\n")
        sys.stdout.flush()
        start = time.monotonic()
        try:
            entry["verdict"] = run_stage(stage, work, left)
        except Exception as error:  # one stage's fault is not the others'
            entry["verdict"], entry["note"] = "failed", f"{type(error).__name__}: {error}"[:300]
        entry["tries"] += 1
        entry["seconds"] += time.monotonic() - start
        (work / _STATE).write_text(json.dumps(state, indent=1) + "\n", "utf-8")
        _keep(work, output)


def _read_state(work: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((work / _STATE).read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _keep(work: Path, output: Path) -> None:
    with atomic_path(output / _ARCHIVE) as partial, tarfile.open(partial, "w:gz") as archive:
        for path in sorted(work.iterdir()):
            archive.add(path, path.name)
    shutil.copyfile(work / _STATE, output / _STATE)
    (output / _SUMMARY).write_text("\n".join(_summary(work)) + "\n", "utf-8")


def _unpack(archive: Path, work: Path, asked: bool) -> None:
    if not archive.is_file():
        if asked:
            raise SystemExit(f"{archive}: no such archive to go on with")
        return
    with tarfile.open(archive) as content:
        content.extractall(work, filter="data")


def _summary(work: Path) -> list[str]:
    """Stages, failed tests, then cases, in at most a hundred lines."""
    lines = []
    for name, entry in _read_state(work).items():
        assert isinstance(entry, dict)
        lines.append(f"{name}: {entry['verdict']}, {entry['seconds']:.0f} s")
        log = work / "logs" / f"{name.replace(' ', '-')}.log"
        if name.startswith("tests") and log.is_file():
            lines += [f"  {line}" for line in _failures(log.read_text("utf-8").splitlines())]
    for path in sorted((work / "records").rglob("*.json")):
        if record := read_or_none(path):
            lines.append(f"{record.suite}{'' if record.complete else ', incomplete'}:")
            lines += [f"  {summary(case)[:160]}" for case in record.cases]
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 1], "... more in the records"]


def _failures(log: Sequence[str]) -> list[str]:
    failed = [line[:160] for line in log if line.startswith(("FAILED", "ERROR"))][:15]
    totals = [line for line in log if " passed" in line or " failed" in line or " error" in line]
    return [*failed, *totals[-1:]]

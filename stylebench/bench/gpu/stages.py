"""The stages of a short loan of a GPU, in order, each a process with a time limit."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import stylebench
from stylebench.bench.records.store import read_or_none
from stylebench.bench.suites import SUITES
from stylebench.bench.suites.child_process import child_process, end_group
from stylekernels.runtime.config import OWN_FOLDER

StageResult = Literal["done", "failed", "unfinished"]

ROOT = Path(stylebench.__file__ or ".").parents[1]
_MERCY = 20.0  # s that a stage gets to write its results down, after it is told to stop
#: The order in which suites are worth having, and the most seconds that each may take a call.
_SUITES = {
    "smoke": 60, "parity": 120, "iteration": 180, "kernels": 150, "sizes": 120,
    "time-to-loss": 120, "stylize": 120,
}  # fmt: skip
assert set(_SUITES) == set(SUITES)
_TUNING_FIRST, _TUNING = 120.0, 240.0  # s of one size and type, before the suites and after
#: Sizes in px and types: auto is float16 on a GPU, and its suites begin with the smallest size.
_TUNED = tuple(
    (size, dtype) for dtype in ("float16", "bfloat16", "float32") for size in (512, 2048)
)


@dataclass(frozen=True)
class Stage:
    """One process.

    Attributes:
        name: of its log, and in the state.
        limit: seconds that it may take.
        command: makes the arguments of Python, given the work folder and the seconds left.
        result: of an exit code, given the work folder; the code is None where it had to be stopped.
    """

    name: str
    limit: float
    command: Callable[[Path, float], list[str]]
    result: Callable[[Path, int | None], StageResult] = lambda _, code: _meaning(code)


def _meaning(code: int | None) -> StageResult:
    """A stage that had to be stopped is worth another try: nothing says that it fails."""
    if code is None:
        return "unfinished"
    return "done" if code == 0 else "failed"


def stages(rehearse: bool, quick: bool) -> list[Stage]:
    """Environment, tests, tuning, suites; a rehearsal is the same on a CPU at tiny sizes.

    The first size and type is tuned before the suites that use it. All sizes and types are tuned
    last, with more time, the first again if it was cut short.
    """
    return [
        Stage("environment", 60, lambda _, __: ["-m", "stylebench", "doctor"]),
        *_tests(rehearse),
        _tune(*_TUNED[0], _TUNING_FIRST, rehearse),
        *(
            _suite(name, limit * (5 if rehearse else 1), rehearse, quick)
            for name, limit in _SUITES.items()
        ),
        *(_tune(*row, _TUNING, rehearse) for row in _TUNED),
    ]


#: Package -> its tests on a GPU: the kernels natively, and of the rest those about GPUs.
_TESTS = {
    "stylekernels": ["tests/stylekernels", "--ignore-glob=*/test_aot.py"],
    "stylebench": [
        "tests/stylebench/engines/test_engines.py",
        "tests/stylebench/engines/test_convolution.py",
        "tests/stylebench/optim/test_lbfgs_step.py",
        "tests/stylebench/optim/test_adam.py",
        "tests/stylebench/transfer/test_stepper.py",
    ],
}
_REHEARSED = {
    "stylekernels": ["tests/stylekernels/test_config.py"],
    "stylebench": ["tests/stylebench/image/test_save.py"],
}


def _tests(rehearse: bool) -> list[Stage]:
    return [
        Stage(
            f"tests of {package}", 150,
            lambda _, __, paths=paths: ["-m", "pytest", *paths, "-q", "-p", "no:cacheprovider"],  # type: ignore[misc]
        )
        for package, paths in (_REHEARSED if rehearse else _TESTS).items()
    ]  # fmt: skip


def _tune(size: int, dtype: str, limit: float, rehearse: bool) -> Stage:
    """A stage a size and type: one that is cut short costs no other's work."""

    def command(work: Path, _: float) -> list[str]:
        if rehearse:
            return ["-m", "stylekernels.tune", "--help"]
        words = ["-m", "stylekernels.tune", "--size", str(size), "--dtype", dtype]
        return [*words, "--output", str(work / "configs")]

    return Stage(f"tune {size} {dtype}", limit, command)


def _suite(name: str, limit: float, rehearse: bool, quick: bool) -> Stage:
    def command(work: Path, left: float) -> list[str]:
        budget = max(1.0, left - 2 * _MERCY)
        words = ["-m", "stylebench", "bench", name, "--output", str(work / "records")]
        words += ["--seconds", f"{budget:.0f}", "--device", "cpu" if rehearse else "cuda"]
        words += ["--quick"] * (quick or rehearse) + ["--size", "48"] * rehearse
        if path := begun(work, name):
            words += ["--resume", str(path)]
        return words

    def result(work: Path, _: int | None) -> StageResult:
        records = [read_or_none(path) for path in _records(work, name)]
        return "done" if any(record and record.complete for record in records) else "unfinished"

    return Stage(name, limit, command, result)


def begun(work: Path, suite: str) -> Path | None:
    """The incomplete record of ``suite``."""
    for path in _records(work, suite):
        record = read_or_none(path)
        if record and not record.complete:
            return path
    return None


def _records(work: Path, suite: str) -> list[Path]:
    name = re.compile(rf"\d+-\d+-\d+-{suite}(-quick)?(-\d+)?")
    return [path for path in (work / "records").rglob("*.json") if name.fullmatch(path.stem)]


def run_stage(stage: Stage, work: Path, left: float) -> StageResult:
    """Run it within its limit and ``left`` seconds; whatever it says goes into its log."""
    limit = min(stage.limit, left)
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))
    log = work / "logs" / f"{stage.name.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as lines:
        with child_process(
            [sys.executable, *stage.command(work, limit)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=lines, stderr=subprocess.STDOUT,
            env={
                **os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1",
                OWN_FOLDER: str(work / "configs"),  # what was tuned is what is measured
            },
            preexec_fn=_hear_interrupts,
        ) as process:  # fmt: skip
            code = _finish(process, limit)
        lines.write(f"\nexit code {code}\n")
    return stage.result(work, code)


def _hear_interrupts() -> None:
    """Undo a shell's &, whose processes and their children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _finish(process: subprocess.Popen[bytes], limit: float) -> int | None:
    """Wait, then ask it to stop as Ctrl-C would, then make it; None where it had to be stopped."""
    try:
        return process.wait(timeout=max(1.0, limit - _MERCY))
    except subprocess.TimeoutExpired:
        end_group(process, signal.SIGINT, _MERCY)
    except KeyboardInterrupt:
        end_group(process, signal.SIGINT, _MERCY)  # what it has is written down
        raise
    return None

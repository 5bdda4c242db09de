"""The stages of a short loan of a GPU, in order, each a process with a time limit."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from stylebench.bench.machine.provenance import PACKAGES
from stylebench.bench.records.record import Record
from stylebench.bench.records.store import read_or_none
from stylebench.bench.suites import SUITES
from stylebench.bench.suites.child_process import child_process, end_group, end_with_parent
from stylekernels.native.sources import sources_hash
from stylekernels.runtime.config import OWN_FOLDER

StageResult = Literal["done", "failed", "unfinished"]

ROOT = PACKAGES[0].parent
_KERNELS = PACKAGES[1:]
_MERCY = 20.0  # s that a stage gets to write its results down, after it is told to stop
_TICK = 1.0  # s between looks at what a stage has written
RECORDS, HEADLINE = "records", "headline"  # folders of records
#: Folder of the convolutions that were chosen: a search that was cut short goes on on the next
#: machine of its kind.
CACHE = "cache"
#: The order in which suites are worth having, and the most seconds that each may take a call.
_SUITES = {
    "iteration": 240, "parity": 120, "sizes": 120, "time-to-loss": 120, "batch": 120,
    "stylize": 120,
}  # fmt: skip
_EARLIER = {"smoke": 75, "kernels": 120}  # suites before the tuner, likewise
assert {*_SUITES, *_EARLIER} == set(SUITES)
_ENVIRONMENT, _HEADLINE, _TESTS = 45, 240, 300  # s
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
        sources: folders of modules; a verdict is void once they change.
    """

    name: str
    limit: float
    command: Callable[[Path, float], list[str]]
    result: Callable[[Path, int | None], StageResult] = lambda _, code: _meaning(code)
    sources: tuple[Path, ...] = PACKAGES

    def subject(self) -> str:
        """The sources and the GPU that a verdict is about."""
        return f"{sources_hash(self.sources)[:16]} {_gpu() or 'cpu'}"


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _meaning(code: int | None) -> StageResult:
    """A stage that was stopped, by whomever, is worth another try: nothing says that it fails."""
    if code is None or -code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        return "unfinished"
    return "done" if code == 0 else "failed"


def stages(rehearse: bool, quick: bool) -> list[Stage]:
    """The headline first, then kernels, tuner and suites, and the tests last.

    A rehearsal is the same on a CPU at tiny sizes.

    The headline is measured with untuned kernels, in a record of its own, and again by the suite
    ``iteration`` once the first size and type is tuned. All sizes and types are tuned after the
    suites, with more time, the first again if it was cut short.
    """

    def suite(name: str, limit: float) -> Stage:
        return _suite(name, limit * (5 if rehearse else 1), rehearse, quick)

    return [
        Stage("environment", _ENVIRONMENT, lambda _, __: ["-m", "stylebench", "doctor"]),
        suite("smoke", _EARLIER["smoke"]),
        _suite("iteration", _HEADLINE, rehearse, quick, headline=True),
        suite("kernels", _EARLIER["kernels"]),
        _tune(*_TUNED[0], _TUNING_FIRST, rehearse),
        *(suite(name, limit) for name, limit in _SUITES.items()),
        *(_tune(*row, _TUNING, rehearse) for row in _TUNED),
        *_tests(rehearse),
    ]


#: Package -> its tests on a GPU: the kernels natively, and of the rest those about GPUs.
_TESTS_OF = {
    "stylekernels": [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "tests/stylekernels").glob("test_*.py"))
        if path.name != "test_aot.py"
    ],
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
            f"tests of {package}", _TESTS,
            lambda _, __, paths=paths: ["-m", "stylebench.bench.gpu.tests", *paths],  # type: ignore[misc]
            sources=(*PACKAGES, ROOT / "tests"),
        )
        for package, paths in (_REHEARSED if rehearse else _TESTS_OF).items()
    ]  # fmt: skip


def _configs(work: Path) -> Path:
    """The folder of configurations tuned for these kernels: others may not even take them."""
    return work / "configs" / sources_hash(_KERNELS)[:16]


def _tune(size: int, dtype: str, limit: float, rehearse: bool) -> Stage:
    """A stage a size and type: one that is cut short costs no other's work."""

    def command(work: Path, _: float) -> list[str]:
        if rehearse:
            return ["-m", "stylekernels.tune", "--help"]
        words = ["-m", "stylekernels.tune", "--size", str(size), "--dtype", dtype]
        return [*words, "--output", str(_configs(work))]

    def result(_: Path, code: int | None) -> StageResult:
        return "unfinished" if code else _meaning(code)  # it goes on from the rows that it has

    return Stage(f"tune {size} {dtype}", limit, command, result, _KERNELS)


def _suite(
    name: str, limit: float, rehearse: bool, quick: bool, *, headline: bool = False
) -> Stage:
    """A suite, or its first job alone, the headline, in a folder of its own."""
    folder = HEADLINE if headline else RECORDS

    def command(work: Path, left: float) -> list[str]:
        budget = max(1.0, left - 2 * _MERCY)
        words = ["-m", "stylebench", "bench", name, "--output", str(work / folder)]
        words += ["--seconds", f"{budget:.0f}", "--device", "cpu" if rehearse else "cuda"]
        words += ["--quick"] * (quick or rehearse) + ["--size", "48"] * rehearse
        words += ["--first", "1"] * headline
        if path := begun(work / folder, name):
            words += ["--resume", str(path)]
        return words

    def result(work: Path, _: int | None) -> StageResult:
        whole = any(record.complete for _, record in _records(work / folder, name))
        return "done" if whole else "unfinished"

    return Stage("headline" if headline else name, limit, command, result)


def begun(folder: Path, suite: str) -> Path | None:
    """The incomplete record of ``suite`` that a run of this code on this GPU may go on with."""
    return next((path for path, record in _records(folder, suite) if not record.complete), None)


def _records(folder: Path, suite: str) -> Iterator[tuple[Path, Record]]:
    name = re.compile(rf"\d+-\d+-\d+-{suite}(-quick)?(-\d+)?")
    current = of_today()
    for path in sorted(folder.rglob("*.json")):
        record = read_or_none(path) if name.fullmatch(path.stem) else None
        if record and current(record):
            yield path, record


def of_today() -> Callable[[Record], bool]:
    """Whether a record is of the sources as they are now, on this GPU: hashed once for many."""
    today = sources_hash(PACKAGES), _gpu()
    return lambda record: (record.code.sha256, record.machine.gpu) == today


def run_stage(
    stage: Stage, work: Path, left: float, tick: Callable[[], object] = lambda: None
) -> StageResult:
    """Run it within its limit and ``left`` seconds; whatever it says goes into its log.

    Args:
        stage: to run.
        work: its folder.
        left: seconds.
        tick: called every second while it runs.
    """
    limit = min(stage.limit, left)
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "kernels", *_callers_paths())))
    log = work / "logs" / f"{stage.name.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as lines:
        with child_process(
            [sys.executable, *stage.command(work, limit)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=lines, stderr=subprocess.STDOUT,
            env={
                "STYLEBENCH_CACHE": str(work / CACHE), **os.environ,
                "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1",
                OWN_FOLDER: str(_configs(work)),  # what was tuned is what is measured
            },
            preexec_fn=_prepare,
        ) as process:  # fmt: skip
            code = _finish(process, limit, tick)
        lines.write(f"\nexit code {code}\n")
    return stage.result(work, code)


def _callers_paths() -> list[str]:
    """Folders of packages that the caller has brought, as the weights on a machine without any."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [str(Path(path).absolute()) for path in paths if path]


def _prepare() -> None:
    """Undo a shell's &, whose processes and their children ignore Ctrl-C; outlive no killed call.

    It would go on, beside what the next call measures.
    """
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _finish(
    process: subprocess.Popen[bytes], limit: float, tick: Callable[[], object]
) -> int | None:
    """Wait, then ask it to stop as Ctrl-C would, then make it; None where it had to be stopped."""
    end = time.monotonic() + max(1.0, limit - _MERCY)
    try:
        while (left := end - time.monotonic()) > 0:
            try:
                return process.wait(timeout=min(_TICK, left))
            except subprocess.TimeoutExpired:
                tick()
        end_group(process, signal.SIGINT, _MERCY)
    except KeyboardInterrupt:
        end_group(process, signal.SIGINT, _MERCY)  # what it has is written down
        raise
    return None

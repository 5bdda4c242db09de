"""What a benchmark run leaves behind: one record a run, versioned, complete enough to re-run.

A time is only worth something beside the proof that what was timed is right, so a case without a
passing parity block cannot hold one. Fields are null where a machine does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from stylebench.bench.records.times import times

VERSION = 2

Value = str | int | float | bool | None
Status = Literal["ok", "parity failed", "out of memory", "failed"]


@dataclass(frozen=True)
class State:
    """What a machine was doing at one moment.

    Attributes:
        clock_mhz: of the processor, or of the GPU's multiprocessors.
        memory_clock_mhz: of the GPU's memory.
        temperature_c: of the package, or of the GPU.
        power_w: drawn by the GPU.
        load: runnable processes a core, the average of the last minute.
        throttle: reasons for which clocks are held down, as NVML names them.
    """

    clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    load: float | None = None
    throttle: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Machine:
    """On what it ran.

    Attributes:
        name: for people: the GPU's name, or the processor's with its cores.
        slug: for folders: ``nvidia-h200``.
        device: ``cpu``, ``cuda`` or ``mps``; what the tensors were on.
        cpu: the processor's name.
        cores: those this process may use.
        memory_bytes: of the host.
        instructions: of the processor, those that matter here: ``avx512_bf16``.
        gpu: its name.
        gpu_memory_bytes: of the GPU.
        multiprocessors: of the GPU.
        capability: of the GPU, ``9.0``.
        l2_bytes: of the GPU.
        power_limit_w: of the GPU.
        before: its state before the first case.
        after: its state after the last.
    """

    name: str
    slug: str
    device: str
    cpu: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    instructions: list[str] = field(default_factory=list)
    gpu: str | None = None
    gpu_memory_bytes: int | None = None
    multiprocessors: int | None = None
    capability: str | None = None
    l2_bytes: int | None = None
    power_limit_w: float | None = None
    before: State = field(default_factory=State)
    after: State = field(default_factory=State)


@dataclass(frozen=True)
class Software:
    """With what it ran: version numbers."""

    os: str
    python: str
    torch: str
    stylebench: str
    triton: str | None = None
    driver: str | None = None
    cuda: str | None = None
    cudnn: str | None = None


@dataclass(frozen=True)
class Code:
    """Which code ran.

    Attributes:
        commit: of git, 40 digits.
        dirty: whether the working tree differed from it.
        sha256: of the sources of both packages, also where there is no git.
    """

    commit: str | None
    dirty: bool | None
    sha256: str


@dataclass(frozen=True)
class Roof:
    """What the machine reached at something simple, measured in the run.

    Attributes:
        what: ``copy``, ``matmul`` or ``convolutions``.
        precision: as a user names it; null for a copy.
        width: of the image whose convolutions these are, px; null otherwise.
        height: likewise.
        value: in ``unit``.
        unit: ``B/s``, ``FLOP/s``, or ``s`` for one iteration's convolutions.
        timing: of one copy, product or iteration's convolutions; null in records of version 1.
    """

    what: Literal["copy", "matmul", "convolutions"]
    precision: str | None
    width: int | None
    height: int | None
    value: float
    unit: Literal["B/s", "FLOP/s", "s"]
    timing: Timing | None = None


@dataclass(frozen=True)
class Check:
    """What is compared, the value, the limit, and whether it holds: ValueError if it says wrong."""

    what: str
    value: float | None
    limit: float
    passed: bool

    def __post_init__(self) -> None:
        if self.passed != (self.value is not None and self.value <= self.limit):
            numbers = f"value {self.value}, limit {self.limit}, passed: {self.passed}"
            raise ValueError(f"check {self.what!r} contradicts itself: {numbers}")

    @classmethod
    def of(cls, what: str, value: float, limit: float) -> Check:
        """NaN and infinity do not pass, and JSON has neither: they are null."""
        finite = abs(value) < float("inf")
        return cls(what, value if finite else None, limit, finite and value <= limit)


@dataclass(frozen=True)
class Parity:
    """What was compared before and after the timed loop, and against which oracle."""

    oracle: str
    checks: list[Check]

    @property
    def passed(self) -> bool:
        """Whether every check holds, and there was one."""
        return bool(self.checks) and all(check.passed for check in self.checks)


@dataclass(frozen=True)
class Timing:
    """A steady state, in seconds a unit of work (an iteration, a launch, a whole run).

    Attributes:
        clock: ``cuda events``, ``cuda graph`` or ``perf_counter``.
        samples: all of them, in the order taken.
        disturbed: indices of samples taken while the clock fell, the GPU throttled, or other
            processes had the processor.
        median: of the undisturbed; of all where most were disturbed.
        q1: their first quartile.
        q3: their third quartile.
        spread: half-width of the 95 % interval of the median, over the median.
        per_sample: units of work behind one sample; samples are divided by it.
        warmup: units of work before the first sample.
    """

    clock: str
    samples: list[float]
    disturbed: list[int]
    median: float
    q1: float
    q3: float
    spread: float
    per_sample: int = 1
    warmup: int = 0


@dataclass(frozen=True)
class Setup:
    """What passes before the steady state, in seconds.

    Attributes:
        build: network, targets and optimizer.
        first: the first iteration, compilation included.
        capture: of the CUDA graph.
    """

    build: float | None = None
    first: float | None = None
    capture: float | None = None


@dataclass(frozen=True)
class Point:
    """One evaluation of a run on its way down."""

    seconds: float
    iteration: int
    loss: float


@dataclass(frozen=True)
class Case:
    """One row of a suite.

    Attributes:
        name: unique within the record: ``fused fp32 512x384``.
        parameters: what was run: engine, precision, preset, width, height, optimizer, history,
            seed, kernel, layer, ...; one flat mapping of plain values.
        status: ``ok``, or why there is no time.
        note: one line for people where the status is not ``ok``, or a remark.
        parity: null where the suite has nothing to compare.
        timing: steady state.
        in_situ: of a kernel right behind the one that writes its input, that one's time taken off.
        setup: what came before it.
        peak_bytes: the most memory that it took, set-up included, of the GPU's or the process's.
        flops: of one unit of work.
        bytes: that one unit of work has to move.
        roof_share: of the measured roof that bounds it, 0 to 1.
        parts: where the time of one unit goes, part -> seconds.
        curve: a run's loss against time, judged by the fp32 reference.
        pictures: name -> path of an image file, relative to the record's folder.
        values: further figures, name -> number, whose names say what they are.

    Raises:
        ValueError: a time, of whatever kind, without a passing parity block.
    """

    name: str
    parameters: Mapping[str, Value]
    status: Status = "ok"
    note: str | None = None
    parity: Parity | None = None
    timing: Timing | None = None
    in_situ: Timing | None = None
    setup: Setup | None = None
    peak_bytes: int | None = None
    flops: float | None = None
    bytes: float | None = None
    roof_share: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    curve: list[Point] = field(default_factory=list)
    pictures: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        proven = self.parity is not None and self.parity.passed
        if not proven and (found := ", ".join(times(self, self.values))):
            raise ValueError(f"case {self.name!r} has a time but no passing parity block: {found}")


@dataclass(frozen=True)
class Record:
    """One run of one suite on one machine.

    Attributes:
        version: of this schema.
        suite: its name.
        started: ISO 8601, UTC, to the second.
        seconds: how long the run took.
        quick: whether it was the short form.
        complete: false when it was cut short; the cases it holds are whole.
        command: that runs it again.
    """

    suite: str
    started: str
    seconds: float
    quick: bool
    complete: bool
    command: str
    machine: Machine
    software: Software
    code: Code
    roofs: list[Roof]
    cases: list[Case]
    version: int = VERSION

    def __post_init__(self) -> None:
        names = [case.name for case in self.cases]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"cases named twice: {', '.join(twice)}")

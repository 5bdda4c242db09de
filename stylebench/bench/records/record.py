"""The record of a benchmark run: one a run, versioned, complete enough to run it again.

A time is only worth something beside the proof that the timed code is right, so a case without a
passing parity block cannot hold one. A field is null where the machine does not report it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from reprlib import Repr
from typing import Literal

VERSION = 3
#: Fields of a case that are times.
TIMES = ("timing", "in_situ", "setup", "roof_share", "parts", "curve")
#: Found in the names of a case's values that are times.
TIME_VALUES = re.compile("second|B/s$|FLOP/s$")
_AMOUNTS = ("peak_bytes", "flops", "bytes", "roof_share")
_FILE_NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")
_TIME = re.compile("[0-9A-Za-z:.+-]+")  # its beginning names the file
_BRIEF = Repr()

Value = str | int | float | bool | None
Status = Literal["ok", "parity failed", "out of memory", "failed"]


@dataclass(frozen=True)
class State:
    """A machine's activity at one moment.

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
    """The machine of a run.

    Attributes:
        name: for people: the GPU's name, or the processor's with its cores.
        slug: for folders: ``nvidia-h200``; lowercase letters, digits and hyphens.
        device: ``cpu``, ``cuda`` or ``mps``, where the tensors were.
        cpu: the processor's name.
        cores: number that this process may use.
        memory_bytes: of the host.
        instructions: of the processor, those that decide a convolution's speed: ``avx512_bf16``.
        gpu: the GPU's name.
        gpu_memory_bytes: of the GPU.
        multiprocessors: of the GPU.
        capability: of the GPU, ``9.0``.
        l2_bytes: of the GPU.
        power_limit_w: of the GPU.
        before: state before the first case.
        after: state after the last case.
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

    def __post_init__(self) -> None:
        _check_file_name("slug", self.slug)


@dataclass(frozen=True)
class Software:
    """Version numbers of a run's software."""

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
    """The code of a run.

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
    """The machine's rate at one simple piece of work, measured in the run.

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

    def __post_init__(self) -> None:
        _check(f"roof {self.what!r}", "value", 0 < self.value < inf, self.value, "above 0")


@dataclass(frozen=True)
class RecordedCheck:
    """One comparison in a record: subject, value, limit, and whether it holds.

    ``stylebench.parity`` has the live one; this one is data, whose value is null where it was NaN.

    Raises:
        ValueError: ``passed`` contradicts the numbers, or the limit is not finite or below 0.
    """

    what: str
    value: float | None
    limit: float
    passed: bool

    def __post_init__(self) -> None:
        _check(f"check {self.what!r}", "limit", 0 <= self.limit < inf, self.limit, "0 or more")
        if self.passed != (self.value is not None and self.value <= self.limit):
            numbers = f"value {self.value}, limit {self.limit}, passed: {self.passed}"
            raise ValueError(f"check {self.what!r} contradicts itself: {numbers}")

    @classmethod
    def of(cls, what: str, value: float, limit: float) -> RecordedCheck:
        """A check of ``value``; NaN and infinity fail, and become null, as JSON has neither."""
        finite = abs(value) < float("inf")
        return cls(what, value if finite else None, limit, finite and value <= limit)


@dataclass(frozen=True)
class Parity:
    """The checks before and after the timed loop, and the oracle they are made against."""

    oracle: str
    checks: list[RecordedCheck]

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
        median: of the undisturbed samples; of all where most were disturbed.
        q1: first quartile of the same samples.
        q3: third quartile.
        spread: half-width of the 95 % interval of the median, over the median.
        per_sample: units of work behind one sample; samples are divided by it.
        warmup: units of work before the first sample.

    Single samples may be 0 or less where another time was taken off (``Case.in_situ``); their
    median may not.

    Raises:
        ValueError: no samples, one that is not finite, or figures that cannot be theirs.
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

    def __post_init__(self) -> None:
        finite = all(map(isfinite, self.samples))
        _check("timing", "samples", self.samples and finite, self.samples, "one or more, finite")
        count = range(len(self.samples))
        indices = all(index in count for index in self.disturbed)
        indices = indices and len(set(self.disturbed)) == len(self.disturbed)
        _check("timing", "disturbed", indices, self.disturbed, "each a sample's index, once")
        quartiles = self.q1, self.median, self.q3
        ordered = self.q1 <= self.median <= self.q3
        _check("timing", "median", 0 < self.median < inf, self.median, "above 0")
        _check("timing", "quartiles", ordered and all(map(isfinite, quartiles)), quartiles,
               "in their order")  # fmt: skip
        _check("timing", "spread", 0 <= self.spread < inf, self.spread, "0 or more")
        _check("timing", "per_sample", self.per_sample >= 1, self.per_sample, "1 or more")
        _check("timing", "warmup", self.warmup >= 0, self.warmup, "0 or more")


@dataclass(frozen=True)
class Setup:
    """The time before the steady state, in seconds.

    Attributes:
        build: network, targets and optimizer.
        first: the first iteration, compilation included.
        capture: of the CUDA graph.
    """

    build: float | None = None
    first: float | None = None
    capture: float | None = None

    def __post_init__(self) -> None:
        for name, seconds in vars(self).items():
            _check("setup", name, seconds is None or 0 <= seconds < inf, seconds, "0 or more")


@dataclass(frozen=True)
class Point:
    """One evaluation of a run on its way down."""

    seconds: float
    iteration: int
    loss: float

    def __post_init__(self) -> None:
        _check("point", "seconds", 0 <= self.seconds < inf, self.seconds, "0 or more")
        _check("point", "iteration", self.iteration >= 0, self.iteration, "0 or more")
        _check("point", "loss", isfinite(self.loss), self.loss, "finite")


@dataclass(frozen=True)
class Case:
    """One row of a suite.

    Attributes:
        name: unique within the record: ``fused fp32 512x384``.
        parameters: engine, precision, preset, width, height, optimizer, history, seed, kernel,
            layer, ...; one flat mapping of plain values. ``weights`` and ``weights_sha256`` (of
            their file; null for random ones), and ``content`` and ``style`` where there are
            pictures, since version 3.
        status: ``ok``, or why there is no time.
        note: one line for people where the status is not ``ok``, or a remark.
        parity: null where the suite has nothing to compare.
        timing: steady state.
        in_situ: of a kernel launched right after the one that writes its input, less that one's.
        setup: time before the steady state.
        peak_bytes: peak memory, set-up included, of the GPU or of the process.
        flops: of one unit of work.
        bytes: that one unit of work has to move.
        roof_share: share reached of the measured roof that bounds the case, 0 to 1.
        parts: breakdown of one unit's time, part -> seconds.
        curve: a run's loss against time, judged by the fp32 reference.
        pictures: name -> path of an image file, relative to the record's folder.
        values: further figures, descriptive name -> number.

    Raises:
        ValueError: a time, of whatever kind, without a passing parity block, or one that is no
            time: 0, negative or not finite.
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
        if not proven and (times := ", ".join(self._times())):
            raise ValueError(f"case {self.name!r} has a time but no passing parity block: {times}")
        for name, time in self._figures():
            _check(f"case {self.name!r}", name, 0 < time < inf, time, "above 0")

    def _times(self) -> Iterable[str]:
        """Names of the fields and values of this case that hold a time."""
        yield from (name for name in TIMES if getattr(self, name) not in (None, [], {}))
        yield from filter(TIME_VALUES.search, self.values)

    def _figures(self) -> Iterable[tuple[str, float]]:
        """Names and numbers that are above 0 in whatever was measured."""
        yield from (
            ("a sample", seconds) for seconds in (self.timing.samples if self.timing else [])
        )
        yield from ((name, self.values[name]) for name in filter(TIME_VALUES.search, self.values))
        yield from self.parts.items()
        named = ((name, getattr(self, name)) for name in _AMOUNTS)
        yield from ((name, amount) for name, amount in named if amount is not None)


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
        command: command line that runs it again.

    Raises:
        ValueError: two cases of one name, or a suite or time that no file could be named by.
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
        _check_file_name("suite", self.suite)
        _check("record", "started", _TIME.fullmatch(self.started), self.started, "as ISO 8601")
        _check("record", "seconds", 0 <= self.seconds < inf, self.seconds, "0 or more")
        names = [case.name for case in self.cases]
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise ValueError(f"cases named twice: {', '.join(twice)}")


def _check_file_name(name: str, text: str) -> None:
    """Refuse what could lead out of the folder of results."""
    _check("record", name, _FILE_NAME.fullmatch(text), text, "lowercase letters, digits, hyphens")


def _check(what: str, name: str, holds: object, value: object, expected: str) -> None:
    """Raise ValueError unless ``holds``."""
    if not holds:
        raise ValueError(f"{what}: {name} is {_BRIEF.repr(value)}; expected {expected}")

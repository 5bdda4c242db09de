"""Suites: jobs that yield cases, and the options, device and pictures that jobs work with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch

from stylebench.bench.measure.memory import out_of_memory
from stylebench.bench.measure.timing import QUICK, Plan
from stylebench.bench.records.record import Case, Value
from stylebench.bench.workloads.precisions import worthwhile
from stylebench.bench.workloads.roofline import ConvStack, Roofline
from stylebench.image.examples import Role, example, example_name
from stylebench.image.load import ImageSource, fit, load_image
from stylebench.model.vgg import Weights
from stylebench.model.weights import load_weights
from stylebench.transfer.device import choose_device
from stylebench.transfer.inputs import Inputs
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.settings import HISTORY, Settings

Parameters = Mapping[str, Value]
Kind = Literal["cpu", "cuda"]
T = TypeVar("T")

_LARGEST = 65_535  # px of a side, as in a JPEG file
_USUAL = (512, 384)  # (width, height) of an example


@dataclass(frozen=True)
class Options:
    """A user's choices about a benchmark.

    Attributes:
        quick: the short form: small sizes, loose intervals.
        device: as ``Settings.device``.
        size: longest side in pixels, in place of the suite's own.
        content: an image file in place of the example.
        style: likewise.
        weights: as ``Settings.weights``.
        pattern: of the names of the cases to run, a part of them or a glob.
        seconds: after which no further case is started.
        first: number of the suite's jobs to run, from the first; None for all.
        command: that ran this, for the record.
    """

    quick: bool = False
    device: str | None = None
    size: int | None = None
    content: Path | None = None
    style: Path | None = None
    weights: str = "original"
    pattern: str | None = None
    seconds: float | None = None
    first: int | None = None
    command: str = ""

    def check(self) -> None:
        """Refuse numbers that no benchmark can be run with.

        Raises:
            ValueError: naming the option, its value, and what is expected.
        """
        size, seconds = self.size, self.seconds
        if size is not None and not (isinstance(size, int) and 1 <= size <= _LARGEST):
            raise ValueError(f"--size {size}: expected a whole number of 1 to {_LARGEST} px")
        if seconds is not None and not 0 < seconds < inf:
            raise ValueError(f"--seconds {seconds}: expected a number above 0")
        if self.first is not None and self.first < 1:
            raise ValueError(f"--first {self.first}: expected 1 or more jobs")
        if self.pattern == "":
            raise ValueError("--filter '': expected a part of a case's name, or a glob")


@dataclass
class Bench:
    """The common ground of all jobs of a run: options, device, pictures, weights, roofline.

    Attributes:
        options: the user's.
        folder: for pictures, named as the record will be; None where nothing is to be written.
        plan: how long to measure.
        progress: called with the current step in a few words.
        roofline: of the device.
    """

    options: Options
    folder: Path | None = None
    progress: Callable[[str], object] = lambda _: None
    plan: Plan = field(init=False)
    device: torch.device = field(init=False)
    roofline: Roofline = field(init=False)

    def __post_init__(self) -> None:
        self.device = choose_device(self.options.device)
        brief = Plan(seconds=5.0, warm_seconds=5.0)
        # Where an iteration takes seconds, a few samples say little of the spread.
        usual = brief if self.kind == "cuda" else Plan(seconds=30.0, least=15)
        self.plan = QUICK if self.options.quick else usual
        roof_plan = QUICK if self.options.quick else brief
        self.roofline = Roofline(self.device, roof_plan, self.options.quick)

    @property
    def kind(self) -> Kind:
        """``cuda``, or ``cpu`` for all else; decides what suites measure."""
        return "cuda" if self.device.type == "cuda" else "cpu"

    @cached_property
    def weights(self) -> Weights:
        """The network's weights."""
        return load_weights(self.options.weights)

    def content(self, width: int, height: int) -> ImageSource:
        """The content image, of the aspect of ``width`` x ``height`` where it is the example."""
        return self.options.content or example("content", width, height)

    def style(self, width: int, height: int) -> ImageSource:
        """The style image, likewise."""
        return self.options.style or example("style", width, height)

    def check_pictures(self) -> None:
        """Refuse pictures of the user's, or a size, that every case would fail of.

        Raises:
            ImageError: a picture that cannot be read, or one too small for the layers.
            WeightsError: weights that cannot be had.
        """
        options = self.options
        if options.content or options.style or options.size:
            (size, *_) = self.sizes(_USUAL)
            self.inputs(size, self.settings(size=max(size)))

    def inputs(self, size: tuple[int, int], settings: Settings) -> Inputs:
        """Both pictures, at the aspect of ``size`` where they are examples, and the weights."""
        return load_inputs(self.content(*size), self.style(*size), settings)

    def settings(self, **choices: Any) -> Settings:
        """Settings with the run's device and weights, one scale and one optimizer for all."""
        common = {"device": str(self.device), "weights": self.weights}
        if choices.get("optimizer") == "adam":
            choices["history"] = None  # it has none
        return Settings(**{**common, "scales": None, "optimizer": "lbfgs", **choices})

    def sizes(self, *own: tuple[int, int]) -> list[tuple[int, int]]:
        """(width, height) of the pictures: the suite's, or the one asked for.

        A picture of the user's keeps its aspect; an example has the suite's first.
        """
        if self.options.size is None and self.options.content is None:
            return list(own)
        longest = [self.options.size] if self.options.size else [max(size) for size in own]
        width, height = self._aspect(own[0])
        return [fit((height, width), side)[::-1] for side in longest]

    def _aspect(self, own: tuple[int, int]) -> tuple[int, int]:
        if self.options.content is None:
            return own
        height, width = load_image(self.options.content).size
        return width, height

    def precisions(self, engine: str) -> list[str]:
        """Precisions worth measuring; see ``precisions.worthwhile``."""
        return worthwhile(engine, self.device)

    def conv_stack(self, settings: Settings) -> ConvStack:
        """The convolutions of a run with ``settings``."""
        return ConvStack(self.weights, settings.resolved_preset().deepest_layer)

    def common(self) -> dict[str, Value]:
        """Parameters that every case has."""
        return {**self.weights.identity, "threads": torch.get_num_threads()}

    def _picture_names(self) -> dict[str, Value]:
        """Parameters of every case that has pictures: their names."""
        options, roles = self.options, get_args(Role)
        given = dict(zip(roles, (options.content, options.style), strict=True))
        return {role: path.name if path else example_name(role) for role, path in given.items()}

    def parameters(self, size: tuple[int, int], **choices: Value) -> dict[str, Value]:
        """Parameters of a run at ``size`` (width, height): the usual ones, and ``choices``."""
        return {
            **self.common(), **self._picture_names(),
            "preset": "gatys-pytorch", "optimizer": "lbfgs", "history": HISTORY, "seed": 0,
            "width": size[0], "height": size[1], **choices,
        }  # fmt: skip


@dataclass(frozen=True)
class Job:
    """Cases that are measured together.

    Attributes:
        cases: name -> parameters.
        run: yields the cases of the given names as they finish; a name whose case is not yielded
            because of an error is recorded with that error.
    """

    cases: Mapping[str, Parameters]
    run: Callable[[Collection[str]], Iterable[Case]]


@dataclass(frozen=True)
class Suite:
    """A named list of jobs.

    Attributes:
        name: as typed.
        jobs: yields the jobs in the order to run them.
    """

    name: str
    jobs: Callable[[Bench], Iterable[Job]]


def failed_case(name: str, parameters: Parameters, error: Exception) -> Case:
    """A case that an error kept from being measured, with the error in one line."""
    if out_of_memory(error):
        return Case(name, parameters, status="out of memory", note=_text(error) or None)
    return Case(name, parameters, status="failed", note=f"{type(error).__name__}: {_text(error)}")


def _text(error: Exception) -> str:
    """One line without the control characters that a compiler's message may color it with."""
    printable = "".join(c if c.isprintable() else " " for c in str(error))
    return " ".join(printable.split())[:300]


def isolate(
    cases: Mapping[str, Parameters],
    run: Callable[[Collection[str]], Iterable[Case]],
    *groups: Collection[str],
) -> Iterator[Case]:
    """The cases that ``run`` yields of each group of names, one by one as they are measured.

    An error costs the rest of its group, whose names become failed cases, and no other group.
    """
    for names in groups:
        missing = dict.fromkeys(names)
        failed: list[Case] = []
        try:
            for case in run(names):
                missing.pop(case.name, None)
                yield case
        except Exception as error:
            failed = [failed_case(name, cases[name], error) for name in missing]
        yield from failed


def isolate_each(
    cases: Mapping[str, Parameters], measure: Callable[[str], Case | None], names: Iterable[str]
) -> Iterator[Case]:
    """The case that ``measure`` makes of each name, or the failed one; None makes no case yet."""

    def run(group: Collection[str]) -> Iterator[Case]:
        yield from (case for name in group if (case := measure(name)) is not None)

    return isolate(cases, run, *([name] for name in names))


def optional(what: str, make: Callable[[], T], default: T) -> tuple[T, str | None]:
    """The result of ``make``, or ``default`` with a note on the error: no case fails for it."""
    try:
        return make(), None
    except Exception as error:
        return default, f"no {what}: {_text(error) or type(error).__name__}"

"""Style transfer from two images to one: the drop-in function and what it returns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from math import gcd
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from stylebench.image.load import ImageSource
from stylebench.image.save import to_pil
from stylebench.model.vgg import Pooling, Weights
from stylebench.transfer.checkpoint import Checkpoint, CheckpointError, Keep, resident
from stylebench.transfer.loop import NonFinite, Step, Trace, optimize
from stylebench.transfer.problem import Problem, Styles, pose
from stylebench.transfer.result import Diverged, Interrupted, Result
from stylebench.transfer.schedule import Leg, carried, coarse_to_fine, polish_of, precision_of
from stylebench.transfer.settings import Layers, Scales, Settings
from stylebench.transfer.state import Moved
from stylebench.version import __version__

Callback = Callable[[Step], object]

_log = logging.getLogger(__name__)


def stylize(
    content: ImageSource,
    style: Styles,
    *,
    preset: str = "gatys-pytorch",
    size: int | None = None,
    iterations: int | None = None,
    style_weights: Sequence[float] | None = None,
    style_scale: float = 1.0,
    content_layers: Layers | None = None,
    style_layers: Layers | None = None,
    content_weight: float | None = None,
    style_weight: float | None = None,
    tv_weight: float | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    weights: str | Path | Weights = "auto",
    engine: str = "auto",
    precision: str = "auto",
    polish: int | None = None,
    scales: Scales | None = None,
    optimizer: str = "lbfgs",
    history: int = 20,
    history_dtype: str | None = None,
    learning_rate: float | None = None,
    tolerance_grad: float = -1.0,
    tolerance_change: float = -1.0,
    init: str | Path | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    callback: Callback | None = None,
) -> Image.Image:
    """Paint ``content`` in the manner of ``style`` (Gatys, Ecker, Bethge: arXiv 1508.06576).

        image = stylize("photo.jpg", "painting.jpg")
        image = stylize("photo.jpg", ["a.jpg", "b.jpg"], style_weights=[2, 1], callback=print)

    Args:
        content: a path, PIL image, numpy array or tensor; see ``images.load_image``.
        style: the same, or a sequence of several.
        callback: called with a ``Step`` for every iteration; ``print`` will do. A GPU is asked some
            ten times a second how far it is, and the iterations since then are told at once.

    The other arguments are described at ``Settings``; None means "as the preset says". What was
    chosen, of the engine above all, is logged (``logging``, INFO).

    Returns:
        The picture, 8-bit RGB, or RGBA where the content has transparency. ``style_transfer`` gives
        the loss history and the unrounded image as well.

    Raises:
        ValueError: a setting, image (``ImageError``) or weights (``WeightsError``) that cannot be.
        Interrupted: on Ctrl-C, with the best image so far.
        Diverged: when a loss or gradient is not finite, with the best image before that.
    """
    given = locals()
    chosen = Settings(**{field.name: given[field.name] for field in fields(Settings)})
    return style_transfer(content, style, chosen, callback).image


def style_transfer(
    content: ImageSource,
    style: Styles,
    settings: Settings | None = None,
    callback: Callback | None = None,
    announce: Callable[[Problem], object] | None = None,
    pause_every: int = 0,
    keep: Keep | None = None,
    resume: str | Path | None = None,
) -> Result:
    """``stylize`` with its settings as an object, returning the whole ``Result``.

    Args:
        content: as for ``stylize``.
        style: likewise.
        settings: likewise; the defaults where there are none.
        callback: likewise.
        announce: called with every problem before it is run: one a scale.
        pause_every: have ``callback`` see the image at multiples of so many iterations exactly.
        keep: write checkpoints, from which the run can be taken up again.
        resume: a checkpoint to go on from, with no bit different on the machine that wrote it. The
            other arguments are those that it was made with; ``iterations`` may be more.

    Raises:
        CheckpointError: ``resume`` cannot be read or belongs to another run, or the optimizer is
            one of torch's own, which are not kept.
    """
    settings = settings or Settings()
    polish = polish_of(settings)
    saved = Checkpoint.load(Path(resume)) if resume else None
    trace: Trace | None = None
    result: Result | None = None
    start: Tensor | None = None
    moved: Moved | None = None
    for index, leg in enumerate(coarse_to_fine(settings, polish)):
        if saved and index < saved.leg:
            continue
        if leg.polishes and moved:
            moved.reset_best()
        try:
            problem = pose(content, style, leg.settings)
        except KeyboardInterrupt as error:
            if result is None:
                raise
            raise Interrupted(result) from error
        first = trace.done if trace else 0
        if saved and index == saved.leg:
            saved.check(problem)
            problem = replace(problem, image=saved.start.to(problem.image))
            moved = saved.moved(Moved.of(problem, leg.settings))
            trace, first = saved.trace(), saved.first
        elif trace is None or moved is None or start is None:
            trace = Trace(problem.image.clone())
            moved = Moved.of(problem, leg.settings)
        elif not leg.polishes:
            problem = carried(trace.best, start, problem)
            moved = Moved.of(problem, leg.settings)
        if keep:
            resident(moved)  # now, not at the first checkpoint
        _log.info(problem.description)
        if announce is not None:
            announce(problem)
        if trace.done == first:
            trace.restart(moved.image)
        told = Told(callback, pause_every, keep, index, first)
        result = _run(problem, leg, moved, trace, told, result)
        start = problem.image
        del problem  # and so its engine, whose memory the next one's can take
    if result is None:
        raise CheckpointError("the checkpoint is in a leg that this run does not have")
    precision = precision_of(settings)
    whole = {"precision": precision, "polish": polish, "schedule": settings.schedule()}
    return replace(result, parameters={**result.parameters, **whole})


def run(problem: Problem, settings: Settings, callback: Callback | None = None) -> Result:
    """Optimize a problem that ``pose`` made of ``settings``, at its one scale."""
    (leg,) = coarse_to_fine(replace(settings, scales=None))
    trace = Trace(problem.image.clone())
    return _run(problem, leg, Moved.of(problem, settings), trace, Told(callback))


@dataclass(frozen=True)
class Told:
    """Who is told of the iterations of a leg, and what is kept of them.

    Attributes:
        callback: as ``style_transfer``'s.
        pause_every: likewise.
        keep: likewise.
        leg: which one, from 0.
        first: evaluations before it.
    """

    callback: Callback | None = None
    pause_every: int = 0
    keep: Keep | None = None
    leg: int = 0
    first: int = 0

    @property
    def stops(self) -> int:
        """Where the image has to be seen: at multiples of this."""
        every = self.keep.every if self.keep else 0
        return gcd(self.pause_every, every)

    def due(self, trace: Trace, iteration: int, last: int) -> bool:
        """Whether the state after ``iteration`` is to be kept, in a leg that ends with ``last``."""
        if not self.keep or iteration != trace.done:
            return False
        return iteration % self.keep.every == 0 or iteration == last


def _run(
    problem: Problem,
    leg: Leg,
    moved: Moved,
    trace: Trace,
    told: Told,
    before: Result | None = None,
) -> Result:
    """Add one leg to ``trace``; the result is that of everything so far, ``before`` included."""
    image, last = moved.image, told.first + leg.iterations

    def result() -> Result:
        outcome = {
            "iterations_done": trace.done,
            "loss": trace.best_loss,
            "best_iteration": trace.best_iteration,
            "seconds": trace.rows[-1]["seconds"],
        }
        parameters = {"stylebench": __version__, **problem.parameters, **outcome}
        return Result(problem.rgb(trace.best), problem.alpha, trace.rows, parameters)

    def step(row: dict[str, float]) -> Step:
        share = leg.share(int(row["iteration"]) - told.first)
        return Step.of(row, leg.total, share, lambda: to_pil(problem.rgb(image), problem.alpha))

    def tell(row: dict[str, float]) -> None:
        if told.keep and told.due(trace, int(row["iteration"]), last):
            Checkpoint.of(told.leg, told.first, problem, moved, trace).save(told.keep.path)
        if told.callback:
            told.callback(step(row))

    try:
        optimize(problem.engine, image, moved.optimizer, last, trace, tell, told.stops)
    except KeyboardInterrupt as error:
        found = result() if trace.best_iteration else before
        if found is None:
            raise
        raise Interrupted(found) from error
    except NonFinite as error:
        precision = problem.parameters["precision"]
        found = result() if trace.best_iteration else before
        raise Diverged(error, found, precision) from error
    return result()

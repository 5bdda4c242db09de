"""Style transfer from two images to one: the drop-in function and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from stylebench.images import ImageSource
from stylebench.loop import NonFinite, Step, Trace, optimise
from stylebench.moved import Moved
from stylebench.network import Pooling, Weights
from stylebench.output import atomic_path, check_writable, save_image, to_pil
from stylebench.problem import Problem, Styles, pose
from stylebench.scales import Leg, carried, coarse_to_fine, polish_of
from stylebench.settings import Layers, Scales, Settings
from stylebench.version import __version__

if TYPE_CHECKING:
    import pandas as pd

Callback = Callable[[Step], object]


@dataclass(frozen=True)
class Result:
    """A finished (or cut short) run.

    Attributes:
        rgb: [3, H, W] fp32 in [0, 1] on the CPU, the image with the lowest loss seen.
        alpha: [1, H, W], the content image's, or None.
        history: one row an iteration: iteration, seconds, loss and every term.
        parameters: the settings with every choice resolved, and what came of them.
    """

    rgb: Tensor
    alpha: Tensor | None
    history: Sequence[Mapping[str, float]]
    parameters: Mapping[str, Any]

    @property
    def losses(self) -> pd.DataFrame:
        """``history`` as a frame, indexed by iteration."""
        import pandas as pd

        return pd.DataFrame(self.history).set_index("iteration")

    @property
    def image(self) -> Image.Image:
        """The picture, 8-bit RGB or RGBA."""
        return to_pil(self.rgb, self.alpha)

    def save(self, path: str | Path, bit_depth: int = 8) -> Path:
        """Write the picture with its parameters inside; see ``output.save_image``."""
        return save_image(path, self.rgb, self.alpha, self.parameters, bit_depth)

    def save_losses(self, path: str | Path) -> Path:
        """Write the loss history as CSV."""
        path = check_writable(Path(path).expanduser())
        with atomic_path(path) as partial:
            self.losses.to_csv(partial)
        return path


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run. ``result`` holds the best image so far."""

    def __init__(self, result: Result) -> None:
        super().__init__("interrupted")
        self.result = result


class Diverged(ArithmeticError):
    """NaN or Inf during a run. ``result`` holds the best image before it, None if there is none."""

    def __init__(self, cause: NonFinite, result: Result | None, precision: str = "fp32") -> None:
        kept = "its best image before that is kept" if result else "there was no good image before"
        advice = "Lower the loss weights or the learning rate"
        if precision == "fp16":
            advice += ", or take precision bf16 or fp32, which reach further"
        super().__init__(f"{cause}; {kept}. {advice}")
        self.cause = cause
        self.result = result


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
    normalise: bool | None = None,
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

    The other arguments are described at ``Settings``; None means "as the preset says".

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
) -> Result:
    """``stylize`` with its settings as an object, returning the whole ``Result``.

    Args:
        content: as for ``stylize``.
        style: likewise.
        settings: likewise; the defaults where there are none.
        callback: likewise.
        announce: called with every problem before it is run: one a scale.
        pause_every: have ``callback`` see the image at multiples of so many iterations exactly.
    """
    settings = settings or Settings()
    polish = polish_of(settings)
    trace: Trace | None = None
    result: Result | None = None
    previous: Problem | None = None
    for leg in coarse_to_fine(settings, polish):
        try:
            problem = pose(content, style, leg.settings)
        except KeyboardInterrupt as error:
            if result is None:
                raise
            raise Interrupted(result) from error
        if trace is None or previous is None:
            trace = Trace(problem.image.clone())
            moved = Moved.of(problem, leg.settings)
            precision = problem.parameters["precision"]
        elif leg.polishes:
            moved.change_function()
        else:
            problem = carried(trace.best, previous, problem)
            moved = Moved.of(problem, leg.settings)
        if announce is not None:
            announce(problem)
        result = _run(problem, leg, moved, trace, callback, pause_every, result)
        previous = problem
    assert result is not None
    whole = {"precision": precision, "polish": polish, "schedule": settings.schedule()}
    return replace(result, parameters={**result.parameters, **whole})


def run(problem: Problem, settings: Settings, callback: Callback | None = None) -> Result:
    """Optimise a problem that ``pose`` made of ``settings``, at its one scale."""
    (leg,) = coarse_to_fine(replace(settings, scales=None))
    return _run(problem, leg, Moved.of(problem, settings), Trace(problem.image.clone()), callback)


def _run(
    problem: Problem,
    leg: Leg,
    moved: Moved,
    trace: Trace,
    callback: Callback | None,
    pause_every: int = 0,
    before: Result | None = None,
) -> Result:
    """Add one leg to ``trace``; the result is that of everything so far, ``before`` included."""
    image = moved.image
    first = trace.done
    trace.restart(image)

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
        share = leg.share(int(row["iteration"]) - first)
        return Step.of(row, leg.total, share, lambda: to_pil(problem.rgb(image), problem.alpha))

    try:
        optimise(
            problem.engine,
            image,
            moved.optimiser,
            first + leg.iterations,
            trace,
            None if callback is None else lambda row: callback(step(row)),
            pause_every,
        )
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

"""Style transfer from two images to one: the drop-in function and what it returns."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch
from PIL import Image

from stylebench.engines.fused.choices import choose_as
from stylebench.files.paths import expand
from stylebench.files.writing import check_writable
from stylebench.image.load import ImageSource
from stylebench.model.vgg import Pooling, Weights
from stylebench.transfer.checkpoint import Checkpoint, CheckpointConfig, CheckpointError
from stylebench.transfer.device import choose_learning_rate, resolve_precision
from stylebench.transfer.fields import HISTORY_DTYPES
from stylebench.transfer.input_hashes import input_hashes
from stylebench.transfer.inputs import Styles
from stylebench.transfer.masks import MaskPairs
from stylebench.transfer.observers import Callback, Observers
from stylebench.transfer.prepare import prepare
from stylebench.transfer.problem import Problem, build_problem
from stylebench.transfer.result import Result, keeping
from stylebench.transfer.reuse import ENGINE_CACHE, clear_cache
from stylebench.transfer.run import is_stuck, is_unmoved, run_phase
from stylebench.transfer.schedule import make_schedule, polish_iterations
from stylebench.transfer.settings import Layers, Scales, Settings
from stylebench.transfer.state import RunState
from stylebench.transfer.torch_state import own_torch_state
from stylebench.transfer.values import check_callable, flag, whole, wrong
from stylebench.watch.live import live_progress
from stylebench.watch.step import Step

_log = logging.getLogger(__name__)


def stylize(
    content: ImageSource,
    style: Styles,
    *,
    preset: str = "gatys-pytorch",
    size: int | str | None = None,
    iterations: int | None = None,
    style_weights: Sequence[float] | None = None,
    style_scale: float = 1.0,
    color: str = "style",
    content_layers: Layers | None = None,
    style_layers: Layers | None = None,
    content_weight: float | None = None,
    style_weight: float | None = None,
    tv_weight: float | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    normalise: bool | None = None,
    seamless: bool = False,
    weights: str | Path | Weights = "auto",
    engine: str = "auto",
    precision: str = "auto",
    polish: int | None = None,
    scales: Scales | None = "auto",
    optimizer: str = "auto",
    history: int | None = None,
    history_dtype: str | None = None,
    learning_rate: float | None = None,
    tolerance_grad: float = -1.0,
    tolerance_change: float = -1.0,
    init: ImageSource | None = None,
    masks: MaskPairs | None = None,
    seed: int = 0,
    tile: int | str = "auto",
    device: str | torch.device | None = None,
    callback: Callback | None = None,
    progress: bool = False,
) -> Image.Image:
    """Paint ``content`` in the manner of ``style`` (Gatys, Ecker, Bethge: arXiv 1508.06576).

        image = stylize("photo.jpg", "painting.jpg")
        image = stylize("photo.jpg", ["a.jpg", "b.jpg"], style_weights=[2, 1], callback=print)

    Args:
        content: a path, PIL image, numpy array or tensor; see ``image.load.load_image``.
        style: the same, or a sequence of several.
        callback: called with a ``Step`` for every iteration; ``print`` will do. A GPU is asked some
            ten times a second how far it is, and the iterations since then are told at once.
        progress: show how the run goes: the picture and a bar in a notebook, a bar on a terminal,
            some lines in a log file (stderr).

    The other arguments are described at ``Settings``; None means "as the preset says". What was
    chosen, of the engine above all, is logged (``logging``, INFO).

    Returns:
        The picture, 8-bit RGB, or RGBA where the content has transparency. ``style_transfer`` gives
        the loss history and the unrounded image as well.

    Raises:
        ValueError: a setting, image (``ImageError``) or weights (``WeightsError``) that cannot be.
        Interrupted: on Ctrl-C, with the best image so far.
        Diverged: when a loss or gradient is not finite, with the best image before that.

    Whatever else ends a run, the exception carries the best image so far; see ``result_of``.
    """
    keywords = locals()
    names = [*(field.name for field in fields(Settings)), "normalise"]
    settings = Settings(**{name: keywords[name] for name in names})
    if not flag("progress", progress):
        return style_transfer(content, style, settings, callback).image
    check_callable("callback", callback)
    with live_progress() as show:

        def show_and_tell(step: Step) -> None:
            show(step)
            if callback:
                callback(step)

        return style_transfer(content, style, settings, show_and_tell).image


@own_torch_state()
def style_transfer(
    content: ImageSource,
    style: Styles,
    settings: Settings | None = None,
    callback: Callback | None = None,
    on_start: Callable[[Problem], object] | None = None,
    sync_every: int = 0,
    keep: CheckpointConfig | None = None,
    resume: str | Path | None = None,
    reuse: bool = True,
) -> Result:
    """``stylize`` with its settings as an object, returning the whole ``Result``.

    Args:
        content: as for ``stylize``.
        style: likewise.
        settings: likewise; the defaults where there are none.
        callback: likewise.
        on_start: called with the problem of every phase before it is run: one a size or precision.
        sync_every: have ``callback`` see the image at multiples of so many iterations exactly.
        keep: write checkpoints, from which the run can be taken up again.
        resume: a checkpoint to go on from, with no bit different on the machine that wrote it. The
            other arguments are those that it was made with; ``iterations`` may be more.
        reuse: take the engines that earlier calls with the same style, size and settings have
            built, and leave them to later ones; see ``clear_cache``. No bit of a result changes.

    Raises:
        CheckpointError: ``resume`` cannot be read or belongs to another run, or the optimizer is
            one of torch's own, which are not kept.
        FileError: no file can be written where ``keep`` says.
    """
    settings = _checked(settings, callback, on_start, keep, resume)
    sync_every = whole("sync_every", sync_every, least=0)
    if keep:
        keep = replace(keep, path=check_writable(keep.path))
    checkpoint = Checkpoint.load(expand(resume)) if resume else None
    if checkpoint:
        clear_cache()  # of engines whose convolutions may be others
        choose_as(checkpoint.convolutions)
    if checkpoint:  # a run goes on as it began, whatever memory there is
        settings = _as_begun(settings, checkpoint)
    prepared = prepare(content, style, settings, may_choose=checkpoint is None, reuse=reuse)
    inputs, plan = prepared.inputs, prepared.plan
    plan.check()
    settings = plan.settings
    inputs.engines = ENGINE_CACHE if plan.reuse else None
    polish = polish_iterations(settings)
    if settings.polish and not polish:  # a precision that was named is refused by Settings
        warnings.warn(
            f"polish is {settings.polish}, and precision {settings.precision!r} is "
            f"{resolve_precision(settings)} here, which is polished by nothing finer: it is left "
            "out",
            stacklevel=2,
        )
    phases = make_schedule(settings, polish)
    observers = Observers(callback, on_start, sync_every, keep)
    hashes = None
    if keep or checkpoint:
        inputs.read_weights()
        hashes = input_hashes(inputs)
    state: RunState | None = None
    result: Result | None = None
    with keeping(lambda: result), plan.explaining():
        for phase in phases[checkpoint.phase if checkpoint else 0 :]:
            problem = build_problem(inputs, phase.settings, last=phase.last)
            if state is not None:
                problem = state.enter(phase, problem)
            elif checkpoint is not None:
                state, problem = RunState.load(checkpoint, phase, problem, hashes)
            else:
                state = RunState.begin(phase, problem, hashes)
            if keep:
                state.checkpointable()  # now, not at the first checkpoint
            _log.info(problem.description)
            result = run_phase(problem, state, observers, before=result)
            if problem.give_back:
                problem.give_back()
            del problem  # and so its engine, whose memory the next one's can take
        if result is None:
            raise CheckpointError("the checkpoint is in a phase that this run does not have")
        first = result.history[: phases[0].iterations]
        unmoved = is_unmoved(first)
        stuck = unmoved or (not settings.starts_from_file and is_stuck(first))
        result = _whole(result, settings, polish, stuck)
        if unmoved:
            rate = choose_learning_rate(settings.learning_rate, result.parameters["optimizer"])
            warnings.warn(
                f"no step lowered the loss; learning_rate is {rate:g}: the picture is where it "
                "began",
                stacklevel=2,
            )
        elif stuck:
            warnings.warn(
                "the loss fell by less than four fifths: the picture is not far from where it "
                "began; raise style_weight, begin from init noise, or take another preset",
                stacklevel=2,
            )
        return result


def _checked(
    settings: object, callback: object, on_start: object, keep: object, resume: object
) -> Settings:
    """The settings, once every argument is of a type that it can be of."""
    for name, function in (("callback", callback), ("on_start", on_start)):
        check_callable(name, function)
    if keep is not None and not isinstance(keep, CheckpointConfig):
        raise wrong("keep", keep, "a stylebench.CheckpointConfig, or None")
    if resume is not None and not isinstance(resume, str | Path):
        raise wrong("resume", resume, "the file of a checkpoint, or None")
    if settings is None:
        return Settings()
    if not isinstance(settings, Settings):
        raise wrong("settings", settings, "stylebench.Settings, or None")
    return settings


def _as_begun(settings: Settings, checkpoint: Checkpoint) -> Settings:
    """``settings`` with the tiles and the dtype of history that the run began with."""
    identity = checkpoint.identity
    dtype, tile = identity.get("history_dtype"), identity.get("tile")
    if settings.history_dtype is None and isinstance(dtype, str) and dtype in HISTORY_DTYPES:
        settings = replace(settings, history_dtype=dtype)
    if settings.tile == "auto" and isinstance(tile, int | str):
        settings = replace(settings, tile=tile)
    return settings


def _whole(result: Result, settings: Settings, polish: int, stuck: bool) -> Result:
    """The last phase's result as that of the whole run."""
    schedule = settings.schedule()
    whole = {
        "precision": resolve_precision(settings),
        "polish": polish,
        "schedule": schedule,
        "iterations": sum(schedule.values()),
    }
    return replace(result, parameters={**result.parameters, **whole}, stuck=stuck)

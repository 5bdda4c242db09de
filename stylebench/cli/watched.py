"""A run that a person watches: its progress is shown, and a signal ends it with its best image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stylebench import signals
from stylebench.console import PlainConsole
from stylebench.image.load import ImageSource
from stylebench.transfer.api import style_transfer
from stylebench.transfer.inputs import Styles
from stylebench.transfer.result import Result, keeping
from stylebench.transfer.settings import Settings
from stylebench.watch.progress import progress
from stylebench.watch.step import Step


def watched(
    console: PlainConsole,
    content: ImageSource,
    style: Styles,
    settings: Settings,
    callback: Callable[[Step], object] | None = None,
    **more: Any,
) -> Result:
    """``style_transfer`` with its progress on ``console``.

    Signals are held from the end of the run on, however it ends: a picture is to be saved.

    Args:
        console: where progress and the problem's description are shown.
        content: as for ``style_transfer``.
        style: likewise.
        settings: likewise.
        callback: told of every step once it is shown.
        more: other arguments of ``style_transfer``.

    Raises:
        BaseException: with the best image so far, which ``result_of`` reads.
    """
    result: Result | None = None
    try:
        with keeping(lambda: result), progress(console) as show:

            def on_step(step: Step) -> None:
                signals.check()
                show(step)
                if callback:
                    callback(step)

            result = style_transfer(
                content,
                style,
                settings,
                on_step,
                on_start=lambda problem: console.print(problem.description),
                **more,
            )
            signals.hold()
            return result
    except BaseException:
        signals.hold()
        raise

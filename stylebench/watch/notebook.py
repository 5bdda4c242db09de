"""A run in a notebook: its picture and a bar, redrawn in place."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stylebench.watch.pictures import as_jpeg, bounded, data_url
from stylebench.watch.step import Step
from stylebench.watch.throttle import Throttle

_LONGEST = 512  # px of the picture: a notebook that is saved keeps the last one
_LOADING = "loading"


def in_notebook() -> bool:
    """Whether this is a notebook's kernel; IPython in a terminal is a terminal."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


@contextmanager
def notebook_progress() -> Iterator[Callable[[Step], None]]:
    """Yield the function that shows steps in the output of the cell that runs.

    A run that ends early says so there: its traceback may be folded away, or be caught.
    """
    output = _Output()
    try:
        yield output.show
    except BaseException as error:
        output.end_with(error)
        raise
    output.redraw()


class _Output:
    """The output of a cell."""

    def __init__(self) -> None:
        from IPython.display import display

        self._throttle = Throttle()
        self._text, self._share, self._address = _LOADING, 0.0, ""
        self._handle = display(self._bundle(), raw=True, display_id=True)

    def show(self, step: Step) -> None:
        """Redraw, where it is time to."""
        self._text, self._share = str(step), step.share
        if step.iteration == step.iterations or self._throttle.due():
            with self._throttle.spending():
                self._address = data_url(as_jpeg(bounded(step.picture(), _LONGEST)))
                self.redraw()

    def end_with(self, error: BaseException) -> None:
        """Show that the run ended by ``error``, and where it was."""
        how = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        reason = f"{error}".partition("\n")[0] or type(error).__name__
        self._text = f"{how}: {reason} ({self._text})"
        self.redraw()

    def redraw(self) -> None:
        """Show what is known by now."""
        self._handle.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, Any]:
        text = html.escape(self._text)
        bar = f'<progress max="1" value="{self._share:.4f}" aria-label="{text}"></progress>'
        picture = self._address and f'<br><img src="{self._address}" alt="The picture so far">'
        return {"text/html": f"<div>{bar} {text}{picture}</div>", "text/plain": self._text}

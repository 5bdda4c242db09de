"""Progress where the caller is: in a notebook, or on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stylebench.watch.notebook import in_notebook, notebook_progress
from stylebench.watch.step import Step


@contextmanager
def live_progress() -> Iterator[Callable[[Step], None]]:
    """Yield the function that shows steps: with the picture in a notebook, as a bar elsewhere."""
    if in_notebook():
        with notebook_progress() as show:
            yield show
        return
    from stylebench.console import stderr_console  # rich takes time to load
    from stylebench.watch.progress import progress

    with progress(stderr_console()) as show:
        yield show

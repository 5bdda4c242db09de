"""Many content images in one style: what they share is built once a shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from stylebench.image.load import ImageSource, Picture, load_image
from stylebench.transfer.api import style_transfer
from stylebench.transfer.inputs import Styles, as_list
from stylebench.transfer.observers import Callback
from stylebench.transfer.result import Result
from stylebench.transfer.settings import Settings
from stylebench.transfer.values import check_callable, flag, wrong

OnError = Callable[[ImageSource, Exception], object]


def stylize_batch(
    contents: Iterable[ImageSource],
    styles: Styles,
    settings: Settings | None = None,
    *,
    callback: Callback | None = None,
    warm_start: bool = False,
    on_error: OnError | None = None,
) -> Iterator[Result | None]:
    """Paint every content in the manner of ``styles``, one after the other.

        for result in stylize_batch(["a.jpg", "b.jpg"], "painting.jpg"):
            result.save(...)

    The style images are read once. Network, style targets and compiled code are built once a shape
    of the contents, and kept for later calls as ``stylize`` keeps them. The result of a picture
    does not depend on its company, to the bit, but with ``warm_start``.

    Args:
        contents: as ``stylize``'s, each of any size; read one by one, when it is their turn.
        styles: as ``stylize``'s.
        settings: of every run; the defaults where there are none.
        callback: called with a ``Step`` for every iteration of every run.
        warm_start: begin each picture from the result of the one before, as frames of a clip; the
            first as ``settings.init`` says.
        on_error: called with the content and the error of a run that fails; None: it is raised.

    Returns:
        A generator of results in the contents' order; None in the place of one that failed.

    Raises:
        ValueError: as ``stylize``; of a content, once it is its turn.
    """
    if settings is None:
        settings = Settings()
    if not isinstance(settings, Settings):
        raise wrong("settings", settings, "stylebench.Settings, or None")
    for name, function in (("callback", callback), ("on_error", on_error)):
        check_callable(name, function)
    one = isinstance(contents, str) or hasattr(contents, "__array__")
    if one or not isinstance(contents, Iterable):
        raise wrong("contents", contents, "several images, as a list")
    flag("warm_start", warm_start)
    paintings = [load_image(style) for style in as_list(styles)]
    return _results(contents, paintings, settings, callback, warm_start, on_error)


def _results(
    contents: Iterable[ImageSource],
    styles: Sequence[Picture],
    settings: Settings,
    callback: Callback | None,
    warm_start: bool,
    on_error: OnError | None,
) -> Iterator[Result | None]:
    start = settings
    for content in contents:
        try:
            result = style_transfer(content, styles, start, callback)
        except Exception as error:
            if on_error is None:
                raise
            on_error(content, error)
            yield None
            continue
        if warm_start:
            start = replace(settings, init=result.rgb)
        yield result

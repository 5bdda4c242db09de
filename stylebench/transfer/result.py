"""The result of a run, also of one that ends early."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from stylebench.files.writing import atomic_path, check_writable
from stylebench.image.metadata import NO_METADATA, Metadata
from stylebench.image.save import save_image, to_pil
from stylebench.transfer.trace import NonFinite

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """The picture of a finished or cut short run, and how its loss fell.

    Attributes:
        rgb: [3, H, W] fp32 in [0, 1] on the CPU, the image with the lowest loss seen. Of several
            processes rank 0 has the whole, and each other its rows.
        alpha: [1, H, W], the content image's, or None.
        history: one row an iteration: iteration, seconds, loss and every term.
        parameters: the settings with every choice resolved, and what came of them.
        stuck: in the run's first phase no step lowered the loss, or 60 or more iterations never
            brought it to a fifth of the first: the picture is not far from where it began.
        metadata: the content's artist, copyright and resolution, which the saved picture keeps.
    """

    rgb: Tensor
    alpha: Tensor | None
    history: Sequence[Mapping[str, float]]
    parameters: Mapping[str, Any]
    stuck: bool = False
    metadata: Metadata = NO_METADATA

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
        """Write the picture with its parameters inside; see ``image.save.save_image``."""
        return save_image(path, self.rgb, self.alpha, self.parameters, bit_depth, self.metadata)

    def save_losses(self, path: str | Path) -> Path:
        """Write the loss history as CSV."""
        path = check_writable(path)
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

    def __init__(
        self, cause: NonFinite, result: Result | None, advice: str, where: str = ""
    ) -> None:
        kept = "its best image before that is kept" if result else "there was no good image before"
        super().__init__(f"{cause}{where}; {kept}. {advice}")
        self.cause = cause
        self.result = result


def result_of(error: BaseException) -> Result | None:
    """The best image of the run that ``error`` ended, or None where there was none yet.

    Any exception that leaves ``stylize`` or ``style_transfer`` once an iteration is done carries
    it, whatever its class: memory that ran out, a full disk, a callback's own exception.

        try:
            image = stylize("photo.jpg", "painting.jpg", callback=callback)
        except Exception as error:
            if result := result_of(error):
                result.save("so-far.png")
            raise
    """
    result = getattr(error, "result", None)
    return result if isinstance(result, Result) else None


@contextmanager
def keeping(best: Callable[[], Result | None]) -> Iterator[None]:
    """Give every exception that leaves the block the best image so far, as ``result_of`` reads it.

    An exception stays the one that was raised; Ctrl-C becomes ``Interrupted``.

    Args:
        best: makes the result. It is not asked where the exception has one.
    """
    try:
        yield
    except BaseException as error:
        if result_of(error) or isinstance(error, Diverged):
            raise
        result = best()
        if isinstance(error, KeyboardInterrupt) and result:
            raise Interrupted(result) from error
        with suppress(AttributeError):  # of a class that has another ``result``, which is its own
            error.result = result  # type: ignore[attr-defined]
        raise

"""The film of a run: its pictures at even steps of the logarithm of its loss.

At even steps of iterations a film is over in its first second, since a loss falls by most of its
way in a few of them. How far it will fall is known at the end alone. Until then frames are kept at
a step that is short enough, up to four times as many as the film has; whenever there could be more,
the step is doubled, and the frames between are dropped.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import chain, repeat
from math import ceil, isfinite, log
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from weakref import finalize

import numpy as np
from PIL import Image

from stylebench.files.writing import atomic_path, check_writable
from stylebench.watch.pictures import as_jpeg, bounded
from stylebench.watch.step import Step

_LONGEST = 1920  # px; players of phones decode no more
_SHORTEST = 2.0**-12  # of the log-loss; a power of two, so that longer steps fall on the same grid
_SPARE = 4  # times as many frames are kept as the film has
_HOLD = 1.0  # seconds that the last picture stays
_FPS = range(1, 121)
_LONGEST_FILM = 600  # seconds
_QUALITY = 95  # of the JPEGs that frames are kept as, well above what a film's codec keeps


@dataclass(frozen=True)
class _Codec:
    container: str
    encoder: str
    options: Mapping[str, str]


_CODECS = {
    ".mp4": _Codec("mp4", "libx264", {"crf": "17", "preset": "medium"}),
    ".webm": _Codec("webm", "libvpx-vp9", {"crf": "24", "b": "0", "row-mt": "1", "cpu-used": "4"}),
}


class FilmError(ValueError):
    """No film can be made; the message says what to do."""


@dataclass
class Film:
    """The film of one run.

    Attributes:
        path: .mp4 or .webm.
        fps: frames a second.
        seconds: that it lasts at most, before the last picture is held for a second more. It is
            shorter where one iteration lowers the loss by several steps: that is one frame.
    """

    path: Path
    fps: int = 30
    seconds: float = 10.0
    _reel: _Reel = field(default_factory=lambda: _Reel(), repr=False)
    _step: float = _SHORTEST  # of the log-loss, between two frames that are kept
    _fall: float = 0.0  # so far, over all phases
    _phase: int = -1
    _zero: float = 0.0  # the log-loss at a fall of 0, in this phase
    _broken: bool = False

    @property
    def most(self) -> int:
        """Frames of the film, the last picture aside."""
        return max(2, round(self.fps * self.seconds)) - 1

    def checked(self) -> Film:
        """The film, with ``~`` expanded, if it can be made and written.

        Raises:
            FilmError: another extension, a rate or a length that cannot be, or PyAV is missing.
            FileError: as ``check_writable``.
        """
        if self.path.suffix.lower() not in _CODECS:
            raise FilmError(
                f"--video {self.path}: unknown film extension {self.path.suffix!r}; expected "
                f"{' or '.join(_CODECS)}"
            )
        if self.fps not in _FPS:
            raise FilmError(f"--video-fps is {self.fps}: expected 1 to {_FPS[-1]}")
        if not 0 < self.seconds <= _LONGEST_FILM:
            raise FilmError(
                f"--video-seconds is {self.seconds:g}: expected more than 0, and {_LONGEST_FILM} "
                "at most"
            )
        _check_encoder(_codec(self.path))
        return Film(check_writable(self.path), self.fps, self.seconds)

    def add(self, step: Step) -> None:
        """Keep the image as it is now, if its loss has fallen far enough.

        A disk that is full ends the film here, with one warning, and not the run.
        """
        self._follow(step)
        if self._broken or not self._due():
            return
        try:
            self._reel.append(self._fall, as_jpeg(bounded(step.picture(), _LONGEST), _QUALITY))
            if self._fall > _SPARE * self.most * self._step:
                while self._fall > _SPARE * self.most * self._step:
                    self._step *= 2
                self._reel = self._reel.only(_at_steps(self._reel.falls, self._step))
        except OSError as error:
            self._broken = True
            reason = error.strerror or error
            warnings.warn(
                f"{self.path}: the film ends at iteration {step.iteration}: its frames cannot be "
                f"kept ({reason})",
                stacklevel=2,
            )

    def write(
        self, path: Path, last: Image.Image, parameters: Mapping[str, Any] | None = None
    ) -> None:
        """Write the film so far, whole or not at all.

        Args:
            path: .mp4 or .webm.
            last: the run's picture, the last frame; those of smaller sizes are enlarged to it.
            parameters: of the run, for the file's comment.

        Raises:
            FileError: as ``check_writable``.
            OSError: the disk is full, and so on; ``path`` is as it was.
        """
        last = _even_sides(bounded(last, _LONGEST))
        frames = (_resized(self._reel.read(index), last.size) for index in self._chosen())
        held = repeat(last, 1 + round(_HOLD * self.fps))
        with atomic_path(path) as partial:
            _encode(partial, _codec(path), self.fps, last.size, chain(frames, held), parameters)

    def _chosen(self) -> Sequence[int]:
        """The frames of the film: at the least multiple of the step that leaves no more."""
        multiple = max(1, ceil(self._fall / (self.most * self._step)))
        return _at_steps(self._reel.falls, multiple * self._step)

    def _follow(self, step: Step) -> None:
        """Bring the fall of the log-loss up to date; a new phase goes on where the last ended."""
        if not isfinite(step.loss) or step.loss <= 0:
            return
        if step.phase != self._phase:
            self._phase, self._zero = step.phase, log(step.loss) + self._fall
        self._fall = max(self._fall, self._zero - log(step.loss))

    def _due(self) -> bool:
        falls = self._reel.falls
        return not falls or self._fall // self._step > falls[-1] // self._step


class _Reel:
    """JPEGs in a temporary file without a name, which is gone with the process however it ends.

    Attributes:
        falls: of the log-loss, one a frame.
    """

    def __init__(self) -> None:
        self.falls: list[float] = []
        self._places: list[tuple[int, int]] = []
        self._file: IO[bytes] = TemporaryFile()  # noqa: SIM115  # it lives as long as the reel
        finalize(self, self._file.close)

    def __len__(self) -> int:
        return len(self.falls)

    def append(self, fall: float, jpeg: bytes) -> None:
        place = self._file.seek(0, io.SEEK_END)
        self._file.write(jpeg)
        self._file.flush()  # a full disk is told now
        self._places.append((place, len(jpeg)))
        self.falls.append(fall)

    def read(self, index: int) -> Image.Image:
        return Image.open(io.BytesIO(self._bytes(index)))

    def only(self, kept: Sequence[int]) -> _Reel:
        """A new reel of some of the frames."""
        fresh = _Reel()
        for index in kept:
            fresh.append(self.falls[index], self._bytes(index))
        return fresh

    def _bytes(self, index: int) -> bytes:
        place, length = self._places[index]
        self._file.seek(place)
        return self._file.read(length)


def _at_steps(falls: Sequence[float], step: float) -> list[int]:
    """The index of the first of ``falls`` in each interval of length ``step`` that has one."""
    intervals = np.floor_divide(falls, step)
    return np.unique(intervals, return_index=True)[1].tolist()


def _codec(path: Path) -> _Codec:
    return _CODECS[path.suffix.lower()]


def _check_encoder(codec: _Codec) -> None:
    if find_spec("av") is None:
        raise FilmError("--video needs PyAV: pip install 'stylebench[video]'")
    import av

    if codec.encoder not in av.codecs_available:
        raise FilmError(
            f"--video needs {codec.encoder}, which this PyAV is without: pip install "
            "--force-reinstall av, whose wheels have it"
        )


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """``picture`` in the size of the film."""
    fits = all(0 <= target - side <= 1 for side, target in zip(picture.size, size, strict=True))
    return _even_sides(picture) if fits else picture.resize(size, Image.Resampling.BICUBIC)


def _even_sides(picture: Image.Image) -> Image.Image:
    """``picture`` with its last row or column doubled where their number is odd.

    Films store color for squares of 2 x 2 px.
    """
    height, width = picture.height, picture.width
    if not (height % 2 or width % 2):
        return picture
    margins = ((0, height % 2), (0, width % 2), (0, 0))
    return Image.fromarray(np.pad(np.asarray(picture), margins, mode="edge"))


def _encode(
    path: Path,
    codec: _Codec,
    fps: int,
    size: tuple[int, int],
    frames: Iterable[Image.Image],
    parameters: Mapping[str, Any] | None,
) -> None:
    """Encode ``frames``, all of ``size``, as every player takes them: BT.709, 4:2:0, 16 to 235."""
    import json

    import av
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    def converted() -> Iterator[av.VideoFrame]:
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_image(picture).reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts = index
            yield frame

    # faststart: the index lies in front, so that a film plays while it loads.
    options = {"movflags": "+faststart"} if codec.container == "mp4" else {}
    with av.open(path, "w", format=codec.container, options=options) as container:
        container.metadata["comment"] = json.dumps(parameters or {}, default=str)
        stream = container.add_stream(codec.encoder, rate=fps, options=dict(codec.options))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for frame in converted():
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

"""Films: their frames, their length, their colors, and what cannot be one."""

import errno
import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from stylebench.files.paths import FileError
from stylebench.watch import film as films
from stylebench.watch.film import Film, FilmError

av = pytest.importorskip("av", reason="the extra 'video' is not installed")


def shot(path, run, last=None, **options):
    """A film of ``run``, decoded: its frames, and its container's facts."""
    film = Film(path, **options).checked()
    for step in run:
        film.add(step)
    film.write(path, last or step.picture(), {"seed": 3})
    return decoded(path)


def decoded(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        facts = {
            "codec": context.name,
            "fps": int(stream.average_rate),
            "seconds": container.duration / 1e6,
            "range": context.color_range,
            "colorspace": context.colorspace,
            "comment": {key.lower(): v for key, v in container.metadata.items()}["comment"],
        }
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], facts


def levels(frames):
    return [float(frame.mean()) for frame in frames]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9")])
def test_a_film_begins_with_the_first_picture_and_holds_the_last(tmp_path, steps, suffix, codec):
    run = list(steps(300))
    frames, facts = shot(tmp_path / f"run{suffix}", run, fps=20, seconds=2)
    assert facts["codec"] == codec
    assert facts["fps"] == 20
    assert json.loads(facts["comment"]) == {"seed": 3}
    assert (facts["range"], facts["colorspace"]) == (1, 1)  # 16 to 235, BT.709
    assert 20 + 20 <= len(frames) <= 20 + 40  # a second more for the last
    assert facts["seconds"] == pytest.approx(len(frames) / 20, abs=0.06)
    for frame, step in ((frames[0], run[0]), (frames[-1], run[-1])):
        assert np.abs(frame.astype(float) - np.asarray(step.picture())).mean() < 2
    assert np.ptp(levels(frames[-20:])) < 1


def test_frames_are_at_even_steps_of_the_log_loss(tmp_path, steps):
    film = Film(tmp_path / "run.mp4", fps=20, seconds=1).checked()
    for step in steps(3000):
        film.add(step)
    falls = np.asarray(film._reel.falls)[film._chosen()]
    gaps = np.diff(falls)
    whole = 1.5 * np.log(3000)
    assert falls[0] == 0
    assert falls[-1] > 0.9 * whole
    assert len(falls) <= film.most
    # Where an iteration is shorter than a step, no gap is off by more than that.
    assert gaps[8:] == pytest.approx(np.full(len(gaps) - 8, whole / film.most), rel=0.25)


def test_no_more_than_four_times_the_frames_are_kept(tmp_path, steps):
    film = Film(tmp_path / "run.mp4", fps=10, seconds=1).checked()
    most = bytes_kept = 0
    for step in steps(5000):
        film.add(step)
        most = max(most, len(film._reel))
        bytes_kept = max(bytes_kept, film._reel._file.seek(0, io.SEEK_END))
    assert film.most < most <= 4 * film.most + 1
    assert bytes_kept < 5 * film.most * 2000


def test_an_iteration_of_many_steps_is_one_frame(tmp_path, steps):
    frames, _ = shot(tmp_path / "run.mp4", steps(7), fps=5, seconds=20)
    assert len(frames) == 7 + 1 + 5  # the last is held


def test_iterations_that_lower_no_loss_are_no_frames(tmp_path, steps):
    film = Film(tmp_path / "run.mp4").checked()
    losses = [9.0, 5.0, 7.0, float("nan"), float("inf"), 6.0, 4.0, 0.0]
    for step in steps(8, loss=lambda iteration: losses[iteration - 1]):
        film.add(step)
    assert film._reel.falls == pytest.approx([0, np.log(9 / 5), np.log(9 / 4)])


def test_a_larger_phase_goes_on_where_the_last_one_ended(tmp_path, steps):
    run = list(steps(40, size=(24, 16), second=21))
    film = Film(tmp_path / "run.mp4").checked()
    for step in run:
        film.add(step)
    assert film._reel.falls[-1] == pytest.approx(2 * 1.5 * np.log(20))
    film.write(film.path, run[-1].picture())
    frames, _ = decoded(film.path)
    assert {frame.shape for frame in frames} == {(32, 48, 3)}
    assert np.all(np.diff(levels(frames)) > -1)  # brighter from frame to frame, over both


@pytest.mark.parametrize("size", [(33, 25), (1, 1), (7, 2)])
def test_odd_sides_become_even_and_keep_their_pixels(tmp_path, steps, size):
    picture = next(steps(1, size=size)).picture()
    frames, _ = shot(tmp_path / "run.mp4", steps(3, size=size), last=picture)
    width, height = (side + side % 2 for side in size)
    assert frames[-1].shape == (height, width, 3)
    inner = frames[-1][: size[1], : size[0]].astype(float)
    assert np.abs(inner - np.asarray(picture)).mean() < 3


def test_sides_are_bounded(tmp_path, steps, monkeypatch):
    monkeypatch.setattr(films, "_LONGEST", 30)
    frames, _ = shot(tmp_path / "run.mp4", steps(3, size=(60, 41)))
    assert frames[0].shape == (20, 30, 3)


def test_colors_are_kept(tmp_path, steps):
    for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50), (255, 255, 255)):
        frames, _ = shot(
            tmp_path / "run.mp4", steps(1), fps=1, last=Image.new("RGB", (32, 32), color)
        )
        assert np.abs(frames[-1].astype(float) - color).max() < 8, color


def test_what_is_transparent_is_white(tmp_path, steps):
    run = [replace(step, picture=lambda: Image.new("RGBA", (16, 16))) for step in steps(2)]
    frames, _ = shot(tmp_path / "run.mp4", run, fps=2)
    assert min(levels(frames)) > 250


def test_a_full_disk_ends_the_film_and_not_the_run(tmp_path, steps, monkeypatch):
    film = Film(tmp_path / "run.mp4").checked()
    append, run = films._Reel.append, list(steps(6))

    def fill(self, fall, jpeg):
        if len(self) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, fall, jpeg)

    monkeypatch.setattr(films._Reel, "append", fill)
    for step in run[:3]:
        film.add(step)
    with pytest.warns(UserWarning, match=r"run.mp4: the film ends at iteration 4.*No space left"):
        film.add(run[3])
    film.add(run[4])  # a warning would be an error
    film.write(film.path, run[-1].picture())
    assert len(decoded(film.path)[0]) == 3 + 1 + 30


def test_a_write_that_fails_leaves_the_old_film(tmp_path, steps, monkeypatch):
    path = tmp_path / "run.mp4"
    path.write_bytes(b"old")
    film = Film(path).checked()

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(films, "_encode", fail)
    with pytest.raises(OSError, match="No space"):
        film.write(path, next(steps(1)).picture())
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("run.mp4", b"old")]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("run.gif", {}, r"run.gif: unknown film extension '.gif'; expected .mp4 or .webm"),
        ("run", {}, r"unknown film extension ''"),
        ("run.mp4", {"fps": 0}, "--video-fps is 0: expected 1 to 120"),
        ("run.mp4", {"fps": 121}, "--video-fps is 121: expected 1 to 120"),
        ("run.mp4", {"seconds": 0.0}, "--video-seconds is 0: expected more than 0, and 600"),
        ("run.mp4", {"seconds": float("nan")}, "--video-seconds is nan"),
        ("run.mp4", {"seconds": float("inf")}, "--video-seconds is inf"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_film_is_refused(tmp_path, name, options, message):
    with pytest.raises(FilmError, match=message):
        Film(tmp_path / name, **options).checked()


def test_a_film_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        Film(tmp_path / "nowhere" / "run.mp4").checked()


def test_missing_libraries_are_named(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(av, "codecs_available", {"mpeg4"})
        with pytest.raises(FilmError, match="--video needs libx264, which this PyAV is without"):
            Film(tmp_path / "run.mp4").checked()
    monkeypatch.setattr(films, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FilmError, match=r"--video needs PyAV: pip install 'stylebench\[video\]'"):
        Film(tmp_path / "run.mp4").checked()

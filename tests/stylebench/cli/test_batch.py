"""``stylebench batch``: what it writes, names, skips and shares."""

import numpy as np
import pytest
from PIL import Image

from stylebench.cli import batch
from stylebench.image.save import read_parameters

QUICK = (
    "--style", "painting.png", "--size", "40", "-n", "2", "--weights", "random", "--device", "cpu",
    "--precision", "fp32",
)  # fmt: skip


@pytest.fixture
def clip(folder, photo):
    """A folder of three frames and a text."""
    (folder / "in").mkdir()
    for number in (1, 2, 10):
        photo.rotate(number).save(folder / "in" / f"frame{number}.png")
    (folder / "in" / "notes.txt").write_text("no picture")
    return folder


def outputs(folder):
    return sorted(path.name for path in (folder / "out").iterdir())


def pixels(path):
    return np.asarray(Image.open(path))


def test_a_folder_is_painted_in_the_order_of_its_numbers(clip, call):
    code, _, err = call("batch", "in", *QUICK)
    assert code == 0, err
    assert outputs(clip) == ["frame1.png", "frame10.png", "frame2.png"]
    lines = [line for line in err.splitlines() if " to go" in line]
    assert [line.split()[:2] for line in lines] == [
        ["1/3", "out/frame1.png:"], ["2/3", "out/frame2.png:"], ["3/3", "out/frame10.png:"],
    ]  # fmt: skip
    assert "done                         3" in err
    assert "pictures a minute" in err


def test_a_picture_of_a_batch_is_that_of_stylize(clip, call):
    call("batch", "in", *QUICK)
    _, style, *rest = QUICK
    call("stylize", "in/frame2.png", style, "-o", "alone.png", *rest)
    assert (pixels(clip / "out" / "frame2.png") == pixels(clip / "alone.png")).all()


def test_a_batch_in_tiles_is_stylize_in_tiles(clip, call):
    tiles = ("--tile", "rows:16")
    code, _, err = call("batch", "in", *QUICK, *tiles)
    assert code == 0, err
    _, style, *rest = QUICK
    call("stylize", "in/frame2.png", style, "-o", "alone.png", *rest, *tiles)
    assert read_parameters(clip / "out" / "frame2.png")["tile"] == "rows:16"
    assert (pixels(clip / "out" / "frame2.png") == pixels(clip / "alone.png")).all()


def test_a_bad_file_is_named_and_the_rest_are_made(clip, call):
    (clip / "in" / "frame3.png").write_text("no picture")
    code, _, err = call("batch", "in", *QUICK)
    assert code == 1
    assert outputs(clip) == ["frame1.png", "frame10.png", "frame2.png"]
    assert "stylebench: error: in/frame3.png: not an image" in err
    assert "failed                       1" in err


def test_an_error_of_a_picture_names_the_options_that_a_batch_has(clip, call):
    code, _, err = call("batch", "photo.png", *QUICK, "--size", "8", "-q")
    assert (code, err.count("\n")) == (1, 1)
    assert err.endswith("raise --size or --style-scale\n")
    code, _, err = call("batch", "photo.png", *QUICK, "--style-weight", "0", "--content-weight=0")
    assert code == 1
    assert "--content-weight and --style-weight and --tv-weight come to 0 everywhere" in err


def test_what_is_there_is_skipped_if_asked(clip, call):
    (clip / "out").mkdir()
    (clip / "out" / "frame2.png").write_text("mine")
    code, _, err = call("batch", "in", *QUICK, "--skip-existing")
    assert code == 0
    assert (clip / "out" / "frame2.png").read_text() == "mine"
    assert "skipped, there already       1" in err
    code, _, err = call("batch", "in", *QUICK)
    assert code == 0
    assert pixels(clip / "out" / "frame2.png").size


def test_quiet_prints_errors_alone(clip, call):
    code, out, err = call("batch", "in", *QUICK, "--quiet")
    assert (code, out, err) == (0, "", "")


def test_ranks_share_the_list(clip, call, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert call("batch", "in", *QUICK)[0] == 0
    assert outputs(clip) == ["frame2.png"]
    monkeypatch.setenv("RANK", "0")
    assert call("batch", "in", *QUICK)[0] == 0
    assert len(outputs(clip)) == 3


@pytest.mark.parametrize(("rank", "ranks"), [("2", "2"), ("x", "2"), ("-1", "2"), ("0", "0")])
def test_ranks_that_cannot_be_are_refused(clip, call, monkeypatch, rank, ranks):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", ranks)
    code, _, err = call("batch", "in", *QUICK)
    assert code == 2
    assert f"RANK={rank!r} and WORLD_SIZE={ranks!r}: expected" in err


def test_a_warm_start_needs_one_process(clip, call, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = call("batch", "in", *QUICK, "--warm-start")
    assert code == 2
    assert "--warm-start begins a picture from the one before it" in err


def test_a_warm_start_makes_other_pictures_but_the_first(clip, call):
    call("batch", "in", *QUICK, "-o", "cold")
    code, _, _ = call("batch", "in", *QUICK, "-o", "warm", "--warm-start")
    assert code == 0
    same = {
        name: (pixels(clip / "cold" / name) == pixels(clip / "warm" / name)).all()
        for name in ("frame1.png", "frame2.png")
    }
    assert same == {"frame1.png": True, "frame2.png": False}


def test_a_warm_start_goes_on_from_the_picture_that_is_there(clip, call):
    """As of a clip that Ctrl-C ended."""
    Image.new("RGB", (40, 40), "red").save(clip / "red.png")
    (clip / "out").mkdir()
    (clip / "out" / "frame1.png").write_bytes((clip / "red.png").read_bytes())
    code, _, err = call("batch", "in", *QUICK, "--warm-start", "--skip-existing")
    assert code == 0, err
    _, style, *rest = QUICK
    call("stylize", "in/frame2.png", style, "-o", "alone.png", *rest, "--init", "red.png")
    assert (pixels(clip / "out" / "frame2.png") == pixels(clip / "alone.png")).all()
    call("stylize", "in/frame2.png", style, "-o", "cold.png", *rest)
    assert (pixels(clip / "alone.png") != pixels(clip / "cold.png")).any()


def test_a_bad_file_takes_no_share_of_the_time_to_go():
    tally = batch._Tally(4)
    tally.began -= 60
    tally.add("failed")
    tally.add("done")
    assert tally.to_go() == "0:02:00 to go"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("photo.png", "in/photo.jpg"), "would both be out/photo.png"),
        (("photo.png", "-o", "."), "photo.png: is an input, and would be replaced"),
        (("empty",), "empty: has no pictures"),
        (("photo.png", "-o", "photo.png"), "photo.png is no folder"),
        (("photo.png", "--suffix", ".txt", "-o", "."), "unknown image extension"),
        (("photo.png", "--style", "missing.png"), "missing.png"),
        (("photo.png", "--size", "0"), "--size is 0"),
        (("-",), "- is standard input, which a batch does not read"),
        (("photo.png", "--style", "-"), "- is standard input, which a batch does not read"),
        (("photo.png", "--tile", "rows:0"), "--tile is 'rows:0': expected"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_picture(clip, photo, call, arguments, message):
    photo.save(clip / "in" / "photo.jpg")
    (clip / "empty").mkdir()
    code, _, err = call("batch", *QUICK, *arguments)
    assert code == 2
    assert message in err
    assert not (clip / "out").exists()


def test_an_output_that_cannot_be_written_is_named_and_the_rest_are_made(clip, call, monkeypatch):
    (clip / "out" / "frame2.png").mkdir(parents=True)
    monkeypatch.setattr(batch, "_check_outputs", lambda *_: None)  # made since then
    code, _, err = call("batch", "in", *QUICK)
    assert code == 1
    assert "out/frame2.png" in err
    assert {"frame1.png", "frame10.png"} < set(outputs(clip))


def test_ctrl_c_keeps_what_is_done_and_tells_what_is_not(clip, call, monkeypatch):
    def check():
        if (clip / "out").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(batch.signals, "go_on", lambda: None)
    monkeypatch.setattr(batch.signals, "check", check)
    code, _, err = call("batch", "in", *QUICK)
    assert code == 130
    assert outputs(clip) == ["frame1.png"]
    assert pixels(clip / "out" / "frame1.png").size
    assert "done                         1" in err
    assert "not begun                    2" in err

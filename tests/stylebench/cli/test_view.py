"""``--view`` and ``--video``: what a run shows and films, however it ends."""

import re
import subprocess
import sys
import urllib.request
import webbrowser
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from PIL import Image

from stylebench.cli.destinations import Destinations
from stylebench.cli.previews import Previews
from stylebench.image.save import read_parameters
from stylebench.watch import film as films
from stylebench.watch.film import Film
from stylebench.watch.page import browser as browsers
from stylebench.watch.page.browser import open_in_browser

QUICK = [
    "--weights", "random", "--size", "32", "--device", "cpu", "--engine", "fused",
    "--precision", "fp32", "--scales", "none", "--style-layers", "relu1_1",
    "--content-layers", "relu2_1",
]  # fmt: skip
STYLIZE = ["stylize", "photo.png", "painting.png", *QUICK]
FEW, MANY = ["--iterations", "4"], ["--iterations", "100000"]


@pytest.fixture
def press(monkeypatch):
    """Press the stop button as soon as there is a page."""

    def send(address):
        urllib.request.urlopen(urllib.request.Request(f"{address}stop", method="POST")).close()

    def opened(address):
        Thread(target=send, args=(address,)).start()
        return False

    monkeypatch.setattr("stylebench.cli.view.open_in_browser", opened)


@pytest.fixture
def no_screen(monkeypatch):
    monkeypatch.setattr("stylebench.cli.view.open_in_browser", lambda address: False)


def pictures_of(path):
    av = pytest.importorskip("av", reason="the extra 'video' is not installed")
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def is_last(path, picture="out.png"):
    """Whether a film ends with a picture, as near as a film's colors are."""
    last = pictures_of(path)[-1].astype(float)
    with Image.open(picture) as image:
        values = np.asarray(image.convert("RGB"))
    # The mean of a square of 2 x 2 px is what a film keeps of colors.
    inner = [one[:20, :32].reshape(10, 2, 16, 2, 3).mean((1, 3)) for one in (last, values)]
    return np.abs(inner[0] - inner[1]).mean() < 4


def test_the_button_keeps_the_picture_and_ends_with_0(folder, call, press):
    code, out, err = call(*STYLIZE, *MANY, "--view", "--checkpoint", "run.safetensors")
    assert (code, out) == (0, "")
    assert re.match(r"watch the run at http://127\.0\.0\.1:\d+/[\w-]{22}/\n", err)
    assert "stopped on the page; the best image so far is in out.png: loss " in err
    done = read_parameters("out.png")["iterations_done"]
    assert 1 <= done < 100_000
    assert f"in {done} iterations" in err


def test_the_button_keeps_the_film_so_far(folder, call, press):
    pytest.importorskip("av", reason="the extra 'video' is not installed")
    code, _, err = call(*STYLIZE, *MANY, "--view", "--video", "run.mp4", "--video-fps", "5")
    assert code == 0, err
    assert is_last("run.mp4")


def test_a_texture_is_watched_and_filmed_as_well(folder, call, press):
    pytest.importorskip("av", reason="the extra 'video' is not installed")
    texture = ["texture", "painting.png", *QUICK[:-2], *MANY]
    code, _, err = call(*texture, "--view", "--video", "run.mp4", "--video-fps", "5")
    assert code == 0, err
    assert "stopped on the page; the best image so far is in out.png: loss " in err
    frames = pictures_of("run.mp4")
    assert len(frames) >= 1 + 1 + 5  # the first, the last, and a second of it
    assert frames[-1].shape == (32, 32, 3)


def test_the_address_is_printed_even_if_nothing_else_is(folder, call, no_screen):
    code, out, err = call(*STYLIZE, *FEW, "--view", "--quiet")
    assert (code, out, err.count("\n")) == (0, "", 1)
    assert err.startswith("watch the run at http://127.0.0.1:")


def test_a_picture_is_the_same_however_it_is_watched(folder, call, no_screen):
    pytest.importorskip("av", reason="the extra 'video' is not installed")
    assert call(*STYLIZE, *FEW, "-o", "alone.png")[0] == 0
    assert call(*STYLIZE, *FEW, "-o", "seen.png", "--view", "--video", "run.mp4")[0] == 0
    with Image.open("alone.png") as alone, Image.open("seen.png") as seen:
        assert np.array_equal(np.asarray(alone), np.asarray(seen))
    assert is_last("run.mp4", "seen.png")


@pytest.mark.slow
def test_without_a_page_or_a_film_none_of_them_is_loaded(folder, fresh_python):
    script = (
        "import sys; sys.argv[0] = 'stylebench'\n"
        "from stylebench.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: print('av' in sys.modules, 'IPython' in sys.modules)"
    )
    assert fresh_python(script, *STYLIZE, *FEW, "--quiet").split() == ["False", "False"]


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space"), 2)], ids=repr
)
def test_a_run_that_ends_early_has_a_film_so_far(folder, call, monkeypatch, error, code):
    def raise_at_third(self, step):
        if step.iteration == 3:
            raise error

    monkeypatch.setattr(Previews, "save", raise_at_third)
    ended, _, err = call(*STYLIZE, *FEW, "--video", "run.mp4", "--video-fps", "5")
    assert ended == code, err
    frames = pictures_of("run.mp4")
    assert len(frames) == 2 + 1 + 5
    assert is_last("run.mp4")


def test_a_film_that_cannot_be_written_is_beside(folder, call, monkeypatch):
    pytest.importorskip("av", reason="the extra 'video' is not installed")
    write = films.Film.write

    def fail(self, path, *more):
        if path.name == "run.mp4":
            raise OSError(5, "Input/output error")
        write(self, path, *more)

    monkeypatch.setattr(films.Film, "write", fail)
    code, _, err = call(*STYLIZE, *FEW, "--video", "run.mp4")
    assert code == 4
    assert (
        "run.mp4: cannot be written ([Errno 5] Input/output error); the film is in run-resc" in err
    )
    assert is_last("run-rescued.mp4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--video", "run.gif"], "--video run.gif: unknown film extension '.gif'; expected .mp4"),
        (["--video", "nowhere/run.mp4"], "the folder nowhere does not exist"),
        (["--video", "a.mp4", "--losses", "./a.mp4"], "--losses and --video are one file, a.mp4"),
        (["--video", "a.mp4", "--init", "hard.mp4"], "--video a.mp4: is the init; take another"),
        (["--video", "a.mp4", "--video-fps", "0"], "--video-fps is 0: expected 1 to 120"),
        (["--video", "a.mp4", "--video-seconds", "-1"], "--video-seconds is -1: expected more"),
        (["--video", ""], "--video is '': expected a name or a value"),
    ],
)
def test_what_cannot_be_filmed_is_refused_before_any_work(
    folder, call, monkeypatch, photo, arguments, message
):
    pytest.importorskip("av", reason="the extra 'video' is not installed")
    monkeypatch.setattr("stylebench.cli.watched.style_transfer", None)  # it would fail
    photo.save("a.mp4", "PNG")
    Path("hard.mp4").hardlink_to("a.mp4")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, out, err = call(*STYLIZE, *FEW, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_film_sees_every_iteration_also_where_a_gpu_goes_ahead():
    def destinations(every, film):
        return Destinations(Path("a.png"), 8, None, None, Previews(Path("a.png"), every), film)

    film = Film(Path("run.mp4"))
    assert destinations(0, None).sync_every == 0
    assert destinations(50, None).sync_every == 50
    assert destinations(50, film).sync_every == destinations(0, film).sync_every == 1


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_a_browser_is_opened_only_where_there_is_a_screen(monkeypatch, platform):
    opened = []
    done = Event()
    monkeypatch.setattr(webbrowser, "open", lambda address: (opened.append(address), done.set()))
    monkeypatch.setattr(browsers.sys, "platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    if platform == "linux":
        assert not open_in_browser("http://127.0.0.1:1/")
        monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    else:
        monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
        assert not open_in_browser("http://127.0.0.1:1/")
        monkeypatch.delenv("SSH_CONNECTION")
    assert open_in_browser("http://127.0.0.1:2/")
    assert done.wait(30)
    assert opened == ["http://127.0.0.1:2/"]


@pytest.mark.slow
def test_a_person_watches_a_run_in_a_browser_and_stops_it(folder, browser):
    command = [sys.executable, "-m", "stylebench", *STYLIZE, *MANY, "--view"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        try:
            address = re.search(r"http://\S+", run.stderr.readline())[0]
            page = browser.new_page()
            page.goto(address)
            page.locator("#image:visible").wait_for(timeout=90_000)
            page.locator("#stop").click()
            page.locator("#stop").click()
            page.locator("#status.stopped").wait_for(timeout=60_000)
            assert run.wait(60) == 0
            assert page.locator("#status").text_content() == (
                f"Stopped on the page; the best image so far is in {folder / 'out.png'}."
            )
            assert page.evaluate("document.querySelector('#image').naturalWidth") == 32
            assert Path("out.png").exists()
            page.close()
        finally:
            run.kill()

"""A figure as a whole: its sheet, its record, and what a second run takes of the first."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from stylebench.figures import make, panels
from stylebench.figures.make import make_figure
from stylebench.figures.store import identity_of
from stylebench.files.paths import FileError
from stylebench.image.save import read_parameters
from stylebench.transfer.result import Interrupted
from stylebench.transfer.settings import Settings

TINY = Settings(
    size=32,
    iterations=2,
    weights="random",
    device="cpu",
    engine="eager",
    precision="fp32",
    optimizer="adam",
)


@pytest.fixture(autouse=True)
def shallow(shallow_presets, monkeypatch):
    """A network of a few layers: what panels are made of matters here, not how deep they are."""
    monkeypatch.setattr(panels, "_CONTENT", ("relu1_2", "relu2_1"))


@pytest.fixture
def counted(monkeypatch):
    """The settings of every run that is made."""
    made, run = [], make.style_transfer

    def style_transfer(content, style, settings, callback):
        made.append(settings)
        return run(content, style, settings, callback)

    monkeypatch.setattr(make, "style_transfer", style_transfer)
    return made


def test_a_sheet_and_its_record_tell_every_panel(tmp_path, photo, painting):
    steps, told = [], []
    sheet = make_figure(
        "content-layer", photo, painting, TINY, callback=steps.append, on_panel=told.append
    )
    assert [(one.number, one.total, one.name) for one in told] == [
        (1, 2, "from conv1_2"), (2, 2, "from conv2_1"),
    ]  # fmt: skip
    assert len(steps) == 4
    path = sheet.save(tmp_path / "sheet.png")
    with Image.open(path) as image:
        assert image.width == 3 * 32 + 2 * 6  # the content and two panels
        assert image.height > 21
    record = json.loads((tmp_path / "sheet.json").read_text())
    assert record == sheet.record
    assert read_parameters(path) == record
    assert (record["figure"], record["content"]) == ("content-layer", "PIL image")
    assert {"content", "style 1", "weights"} == set(record["inputs"])
    first, second = record["panels"]
    assert (first["column"], second["column"]) == ("from conv1_2", "from conv2_1")
    assert set(second["terms"]) == {"content relu2_1", "style relu1_1", "style relu2_1"}
    for panel, one in zip(record["panels"], told, strict=True):
        assert panel["iterations"] == 2
        assert panel["loss"] == one.loss
        assert sum(panel["terms"].values()) == pytest.approx(panel["loss"], rel=1e-5)
        assert panel["parameters"]["engine"] == "eager"


def test_a_figure_goes_on_where_it_was_interrupted_and_makes_nothing_twice(
    tmp_path, photo, painting, counted
):
    def stop(_):
        raise KeyboardInterrupt

    keep = tmp_path / "panels"
    with pytest.raises(KeyboardInterrupt):
        make_figure("init", photo, painting, TINY, keep=keep, on_panel=stop)
    assert (len(counted), len(list(keep.iterdir()))) == (1, 1)

    def stop_within(step):
        if len(counted) == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        make_figure("init", photo, painting, TINY, keep=keep, callback=stop_within)
    assert (len(counted), len(list(keep.iterdir()))) == (3, 2)
    told = []
    sheet = make_figure("init", photo, painting, TINY, keep=keep, on_panel=told.append)
    assert len(counted) == 3 + 4
    assert [one.seconds > 0 for one in told] == [False, False, True, True, True, True]
    assert len({panel["identity"] for panel in sheet.record["panels"]}) == 6
    again = make_figure("init", photo, painting, TINY, keep=keep)
    assert len(counted) == 3 + 4
    assert again.record == sheet.record
    assert np.array_equal(again.image, sheet.image)
    kept_nothing = make_figure("init", photo, painting, TINY)
    assert np.array_equal(kept_nothing.image, sheet.image)


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": 3}, {"size": 34}, {"seed": 9}, {"engine": "reference"}, {"init": "content"},
        {"precision": "fp64", "engine": "reference"}, {"learning_rate": 0.1}, {"scales": [24]},
        {"content_weight": 2.0}, {"style_layers": ["relu1_1"]}, {"content_layers": ["relu1_2"]},
    ],
    ids=str,
)  # fmt: skip
def test_other_settings_are_another_panel(change):
    hashes = {"content": "0", "style 1": "1", "weights": "2"}
    panel = identity_of(TINY, hashes)
    assert identity_of(replace(TINY), dict(hashes)) == panel
    assert identity_of(replace(TINY, **change), hashes) != panel


@pytest.mark.parametrize("name", ["content", "style 1", "weights"])
def test_other_inputs_are_another_panel(name):
    hashes = {"content": "0", "style 1": "1", "weights": "2"}
    assert identity_of(TINY, hashes) != identity_of(TINY, {**hashes, name: "3"})


def test_panels_of_another_run_are_neither_taken_nor_replaced(tmp_path, photo, painting, counted):
    make_figure("content-layer", photo, painting, TINY, keep=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = photo.copy()
    other.putpixel((3, 3), (0, 0, 0))
    make_figure("content-layer", other, painting, TINY, keep=tmp_path)
    assert len(counted) == len(list(tmp_path.iterdir())) == 4
    assert {path: path.read_bytes() for path in before} == before


def test_a_start_is_known_by_its_pixels_and_not_by_its_name(tmp_path, photo, painting, counted):
    start, keep = tmp_path / "start.png", tmp_path / "panels"
    painting.save(start)
    settings = replace(TINY, init=str(start))
    make_figure("content-layer", photo, painting, settings, keep=keep)
    make_figure("content-layer", photo, painting, replace(TINY, init=painting), keep=keep)
    assert len(counted) == 2
    photo.save(start)
    make_figure("content-layer", photo, painting, settings, keep=keep)
    assert len(counted) == 4


def test_a_panel_that_is_no_longer_one_is_made_again(tmp_path, photo, painting, counted):
    make_figure("content-layer", photo, painting, TINY, keep=tmp_path)
    first, second = sorted(tmp_path.iterdir())
    first.write_bytes(b"no picture")
    Image.new("RGB", (32, 21)).save(second)  # a picture that says nothing of itself
    make_figure("content-layer", photo, painting, TINY, keep=tmp_path)
    assert len(counted) == 4
    second.write_bytes(first.read_bytes())  # a panel, and another one than its name says
    make_figure("content-layer", photo, painting, TINY, keep=tmp_path)
    assert len(counted) == 5


def test_no_record_of_another_kind_is_replaced(tmp_path, photo, painting):
    (tmp_path / "sheet.json").write_text('{"mine": 1}')
    with pytest.raises(FileError, match=r"sheet\.json: exists, and is no figure's record"):
        make.check_sheet(tmp_path / "sheet.png")
    sheet = make_figure("content-layer", photo, painting, TINY)
    sheet.save(tmp_path / "other.png")
    sheet.save(tmp_path / "other.png")  # its own
    with pytest.raises(FileError):
        sheet.save(tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()

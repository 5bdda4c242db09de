"""``stylebench figure``: its sheet, its words, and how it goes on."""

import json

import pytest
from PIL import Image

from stylebench.cli import panels as cli_panels

QUICK = (
    "--size", "32", "-n", "6", "--weights", "random", "--device", "cpu", "--engine", "eager",
    "--precision", "fp32",
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_noises(shallow_presets, monkeypatch):
    monkeypatch.setattr("stylebench.figures.panels._NOISES", 1)


def test_a_figure_is_a_sheet_a_record_and_a_folder_of_panels(folder, call):
    code, out, err = call("figure", "init", "photo.png", "painting.png", "-o", "s.png", *QUICK)
    assert (code, out) == (0, ""), err
    lines = err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "1/3 from the content", "2/3 from the style", "3/3 from noise 0", "s.png",
    ]  # fmt: skip
    assert lines[0].endswith("to go")
    assert lines[-1] == "s.png: 3 panels, which are kept in s.panels"
    assert len(list((folder / "s.panels").glob("*.png"))) == 3
    record = json.loads((folder / "s.json").read_text())
    assert [panel["column"] for panel in record["panels"]] == [
        "from the content", "from the style", "from noise 0",
    ]  # fmt: skip
    with Image.open("s.png") as image:
        assert image.width == 3 * 32 + 2 * 6


def test_an_interrupted_figure_says_how_to_go_on_and_does(folder, call, monkeypatch):
    def stop_after_one(console, tally, panel):
        tell_of(console, tally, panel)
        raise KeyboardInterrupt

    tell_of = cli_panels._tell_of
    command = ("figure", "init", "photo.png", "painting.png", "-o", "s.png", *QUICK)
    monkeypatch.setattr(cli_panels, "_tell_of", stop_after_one)
    code, _, err = call(*command)
    assert code == 130
    line = "interrupted: 1 of 3 panels are done and kept in s.panels; the same command goes on"
    assert err.splitlines()[-1] == line
    assert not (folder / "s.png").exists()
    monkeypatch.setattr(cli_panels, "_tell_of", tell_of)
    code, _, err = call(*command)
    assert code == 0
    assert err.splitlines()[0].startswith("1/3 from the content: loss ")
    assert err.splitlines()[0].endswith(", there already")
    assert "there already" not in err.splitlines()[1]
    assert (folder / "s.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("layers", "absent.png", "painting.png"), "absent.png: no such file"),
        (("layers", "photo.png", "painting.png", "-o", "s.bmp"), "unknown image extension '.bmp'"),
        (("layers", "photo.png", "painting.png", "-o", "photo.png"), "photo.png: is an input"),
        (
            ("layers", "photo.png", "painting.png", "--init", "start.png", "-o", "start.png"),
            "start.png: is an input, and would be replaced",
        ),
        (("layers", "photo.png", "painting.png", "-o", "no/s.png"), "the folder no does not exis"),
        (("layers", "photo.png", "painting.png", "-o", "mine.png"), "mine.json: exists, and is n"),
        (("layers", "photo.png", "painting.png", "-o", "p.png"), "p.panels is no folder"),
        (("layers", "photo.png", "painting.png", "--ratios", "1e-3,x"), "--ratios: 'x' is not a"),
        (("init", "photo.png", "painting.png", "--ratios", "1,2"), "--ratios are 2: expected one"),
        (("init", "photo.png", "painting.png", "--init", "noise"), "--init is 'noise', which the"),
        (("init", "photo.png", "painting.png", "--size", "0"), "--size is 0: expected"),
        (("init", "photo.png", "painting.png", "--seed", "-1"), "--seed is -1: expected"),
        (("content-layer", "photo.png"), "Missing argument"),
        (("pictures",), "No such command 'pictures'"),
    ],
)
def test_each_mistake_is_named_in_one_line_and_leaves_nothing(folder, call, arguments, message):
    (folder / "mine.json").write_text("[1]")
    (folder / "start.png").write_bytes((folder / "photo.png").read_bytes())
    (folder / "p.panels").write_text("mine")
    before = sorted(folder.iterdir())
    code, out, err = call("figure", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert message in err
    assert sorted(folder.iterdir()) == before


def test_quiet_says_nothing(folder, call):
    assert call("figure", "init", "photo.png", "painting.png", *QUICK, "-q") == (0, "", "")


def test_an_error_names_no_option_that_a_figure_does_not_have(folder, call):
    figure = ["figure", "init", "photo.png", "painting.png", "--weights", "random", "-q"]
    code, _, err = call(*figure, "--size", "32", "-n", "1", "--ratios", "1e-37")
    assert code == 2
    assert "style_weight is " in err
    assert "--style-weight" not in err

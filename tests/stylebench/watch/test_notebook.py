"""``stylize(..., progress=True)``: a picture and a bar in a notebook, lines elsewhere."""

import base64
import io
import re
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from stylebench import stylize
from stylebench.watch.notebook import in_notebook, notebook_progress

QUICK = {
    "size": 32, "iterations": 3, "weights": "random", "device": "cpu", "precision": "fp32",
    "content_layers": ["relu2_1"], "style_layers": ["relu1_1"],
}  # fmt: skip


class Cell(list):
    """What the output of a cell was, one after the other."""

    def display(self, data, raw, display_id):
        assert (raw, display_id) == (True, True)
        self.append(data)
        return SimpleNamespace(update=self.update)

    def update(self, data, raw):
        assert raw
        self.append(data)


@pytest.fixture
def cell(monkeypatch):
    """The cell of a notebook, by an IPython that has nothing but what is used of it."""
    cell, ipython, display = Cell(), ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    display.display = cell.display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return cell


def picture_of(output):
    data = re.search(r'src="data:image/jpeg;base64,([^"]+)"', output["text/html"])[1]
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_notebook_shows_the_picture_and_a_bar(cell, photo, painting):
    seen = []
    stylize(photo, painting, **QUICK, progress=True, callback=seen.append)
    assert [step.iteration for step in seen] == [1, 2, 3]
    assert cell[0] == {
        "text/html": '<div><progress max="1" value="0.0000" aria-label="loading"></progress> '
        "loading</div>",
        "text/plain": "loading",
    }
    last = cell[-1]
    assert last["text/plain"].startswith("iteration 3/3  loss ")
    assert 'value="1.0000"' in last["text/html"]
    assert picture_of(last).size == (32, 21)


def test_pictures_are_drawn_no_more_often_than_the_throttle_lets(cell, steps, no_picture):
    first, second, *_ = steps(9)
    with notebook_progress() as show:
        show(first)
        count = len(cell)
        show(replace(second, picture=no_picture))
        assert len(cell) == count
    assert cell[-1]["text/plain"] == str(second)  # at the end all is told


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyboardInterrupt(), "stopped: KeyboardInterrupt (iteration 1/9  loss "),
        (ValueError("a <b>\nand more"), "failed: a <b> (iteration 1/9  loss "),
    ],
)
def test_a_run_that_ends_early_says_so_beside_its_last_state(cell, steps, error, text):
    def run():
        with notebook_progress() as show:
            for step in steps(9):
                show(step)
                raise error

    with pytest.raises(type(error)):
        run()
    assert cell[-1]["text/plain"].startswith(text)
    assert "<b>" not in cell[-1]["text/html"]
    assert picture_of(cell[-1]).size == (48, 32)


def test_a_run_that_cannot_begin_does_not_stay_at_loading(cell, photo, painting):
    with pytest.raises(ValueError, match="no such file"):
        stylize("absent.png", painting, **QUICK, progress=True)
    assert cell[-1]["text/plain"] == "failed: absent.png: no such file (loading)"


def test_large_pictures_are_made_smaller(cell, steps):
    with notebook_progress() as show:
        show(next(steps(9, size=(2000, 100))))
    assert picture_of(cell[-1]).size == (512, 26)


def test_a_terminal_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    assert "IPython" not in sys.modules  # which was not loaded to ask
    ipython = ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    for shell in (None, SimpleNamespace()):  # a script that imports it, and its terminal
        ipython.get_ipython = lambda shell=shell: shell
        assert not in_notebook()


def test_elsewhere_lines_go_to_stderr(monkeypatch, photo, painting, capsys):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    stylize(photo, painting, **QUICK, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split("  ")[0] for line in err.splitlines()] == [
        f"iteration {done}/3" for done in (1, 2, 3)
    ]


def test_nothing_is_shown_unless_asked_for(cell, photo, painting, capsys):
    stylize(photo, painting, **QUICK)
    assert (cell, *capsys.readouterr()) == ([], "", "")


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_progress_is_true_or_false(photo, painting, value):
    with pytest.raises(ValueError, match=r"progress is .*: expected True or False"):
        stylize(photo, painting, **QUICK, progress=value)


def test_a_callback_that_is_none_is_refused_with_progress_as_well(photo, painting, cell):
    with pytest.raises(ValueError, match="callback is 3: expected a function, or None"):
        stylize(photo, painting, **QUICK, progress=True, callback=3)
    assert cell == []


def test_ipython_itself_takes_what_it_is_given(monkeypatch, steps):
    """The real display, where IPython is installed: its formatter and its publisher."""
    pytest.importorskip("IPython", reason="IPython is not installed")
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    InteractiveShell.instance()
    with capture_output() as captured, notebook_progress() as show:
        for step in steps(2):
            show(step)
    assert captured.outputs[0].data["text/plain"] == "loading"
    assert picture_of(captured.outputs[-1].data).size == (48, 32)
    InteractiveShell.clear_instance()

"""The end of a run: whatever happens, its picture is somewhere, and a line says where."""

import errno
import shutil
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import torch

from stylebench.cli.errors import explain
from stylebench.cli.previews import Previews
from stylebench.cli.saving import write_or_rescue
from stylebench.image.save import read_parameters
from stylebench.transfer.result import Result

QUICK = [
    "--weights", "random", "--size", "32", "--iterations", "4", "--device", "cpu",
    "--engine", "fused", "--precision", "fp32",
]  # fmt: skip
STYLIZE = ["stylize", "photo.png", "painting.png", *QUICK]


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """The folder of temporary files."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder))
    return folder


def at_third(monkeypatch, happen):
    """Let something happen in the third iteration."""

    def save(self, step):
        if step.iteration == 3:
            happen()

    monkeypatch.setattr(Previews, "save", save)


def raising(error):
    def happen():
        raise error

    return happen


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "error: out of memory: 32 x 21 px with 100 pairs of L-BFGS need "),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you\ntried"),
            "error: out of memory: 32 x 21 px with ",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), "error: out of memory: 32 x 21"),
        (OSError(errno.ENOSPC, "No space left on device"), "error: [Errno 28] No space left"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "error: [Errno 32] Broken pipe"),
    ],
)
def test_an_error_in_a_run_is_one_line_and_the_best_image_is_saved(
    folder, call, monkeypatch, error, message
):
    at_third(monkeypatch, raising(error))
    code, _, err = call(*STYLIZE, "--losses", "losses.csv")
    assert code == 2
    assert "the best image so far is in out.png" in err
    assert f"stylebench: {message}" in err.splitlines()[-1]
    assert read_parameters("out.png")["iterations_done"] == 3
    assert len(pd.read_csv("losses.csv")) == 3


def test_a_fault_of_ours_shows_its_traceback_and_the_best_image_is_saved(folder, monkeypatch, call):
    at_third(monkeypatch, raising(RuntimeError("odd")))
    with pytest.raises(RuntimeError, match="odd"):
        call(*STYLIZE)
    assert read_parameters("out.png")["iterations_done"] == 3


def failing_at(monkeypatch, *names):
    """Let the picture's writing fail at paths of these names, as on a full disk."""
    save = Result.save

    def full(self, path, bit_depth=8):
        if path.name in names:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(self, path, bit_depth)

    monkeypatch.setattr(Result, "save", full)


def test_a_picture_that_cannot_be_written_is_written_beside(folder, call, monkeypatch):
    Path("out-rescued.png").write_text("the user's")
    failing_at(monkeypatch, "out.jpg")
    code, _, err = call(*STYLIZE, "-o", "out.jpg", "-q")
    assert code == 4
    assert err == (
        "stylebench: error: out.jpg: cannot be written ([Errno 28] No space left on device); the "
        "picture is in out-rescued-2.png\n"
    )
    assert read_parameters("out-rescued-2.png")["iterations_done"] == 4
    assert Path("out-rescued.png").read_text() == "the user's"


def test_a_picture_whose_folder_is_gone_is_in_the_temporary_folder(
    folder, call, monkeypatch, temporary
):
    (folder / "gone").mkdir()
    at_third(monkeypatch, lambda: shutil.rmtree("gone"))
    code, _, err = call(*STYLIZE, "-o", "gone/out.png", "--losses", "gone/a.csv")
    assert code == 4
    assert f"the picture is in {temporary / 'out-rescued.png'}" in err
    assert f"the loss history is in {temporary / 'a-rescued.csv'}" in err
    assert read_parameters(temporary / "out-rescued.png")["iterations_done"] == 4


def test_a_loss_history_is_rescued_as_well(folder, call, monkeypatch):
    save = Result.save_losses

    def full(self, path):
        if path.name == "a.csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(self, path)

    monkeypatch.setattr(Result, "save_losses", full)
    code, _, err = call(*STYLIZE, "--losses", "a.csv")
    assert code == 4
    assert "the loss history is in a-rescued.csv" in err
    assert read_parameters("out.png")["iterations_done"] == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_a_run_that_ends_early_is_rescued_too(folder, call, monkeypatch, error):
    at_third(monkeypatch, raising(error))
    failing_at(monkeypatch, "out.png")
    code, _, err = call(*STYLIZE)
    assert code == 4
    assert "the best image so far is in out-rescued.png" in err
    assert read_parameters("out-rescued.png")["iterations_done"] == 3


def test_a_picture_that_can_be_written_nowhere_is_an_error(folder, call, monkeypatch):
    failing_at(monkeypatch, "out.png", "out-rescued.png")
    code, _, err = call(*STYLIZE)
    assert code == 2
    assert "stylebench: error: [Errno 28] No space left on device" in err


def test_a_demo_is_rescued(folder, call, monkeypatch, temporary):
    failing_at(monkeypatch, "result.png")
    code, out, err = call("demo", "-o", "demo", "--size", "32", "--iterations", "2",
                          "--weights", "random")  # fmt: skip
    place = folder / "demo" / "result-rescued.png"
    assert code == 4
    assert "the picture is in demo/result-rescued.png" in err
    assert read_parameters(place)["iterations_done"] == 2
    assert "result-rescued.png" in out


def test_a_long_name_leaves_room_for_another(tmp_path):
    asked = tmp_path / ("ä" * 120 + ".png")

    def write(path):
        if path == asked:
            raise OSError(errno.EPERM, "Operation not permitted")
        path.write_text("saved")

    place = write_or_rescue(write, asked, "the picture")
    assert (place.parent, place.read_text()) == (tmp_path, "saved")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("out of memory.png: no such file"), "out of memory.png: no such file"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory; lower --size"),
        (RuntimeError("not enough memory: you tried to allocate"), "out of memory; lower --size"),
        (
            ImportError("libtorch.so: failed to map segment", name="torch"),
            "a library cannot be loaded (libtorch.so: failed to map segment)",
        ),
        (ModuleNotFoundError("No module named", name="stylebench.x"), None),
        (RuntimeError("odd"), None),
    ],
)
def test_errors_are_explained_by_what_they_are(error, message):
    explained = explain(error)
    assert explained == message or explained.startswith(message)

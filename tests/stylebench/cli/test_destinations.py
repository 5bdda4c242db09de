"""Outputs: none of the user's files is replaced, and what cannot be written is found out first."""

import errno
import os
import stat
from pathlib import Path

import pytest
from PIL import Image

from stylebench.cli.previews import Previews
from stylebench.files.paths import FileError
from stylebench.image.load import load_image
from stylebench.transfer.checkpoint import Checkpoint
from stylebench.watch.step import Step

QUICK = [
    "--weights", "random", "--size", "32", "--iterations", "4", "--device", "cpu",
    "--engine", "fused", "--precision", "fp32",
]  # fmt: skip


@pytest.fixture
def files(folder, photo):
    """Contents of the folder's files by name."""
    photo.save("init.png")
    Path("link.png").symlink_to("photo.png")
    Path("hard.png").hardlink_to("photo.png")
    photo.save("out-00002.png")
    photo.save("painting-00002.png")
    Path("blocked-00002.png").mkdir()
    os.mkfifo("piped-00004.png")
    Path("device-00002.png").symlink_to("/dev/null")
    Path("old.safetensors").write_text("of another run")
    Path("vgg.safetensors").write_text("weights")

    def read():
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    return read


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "photo.png"], "-o photo.png: is the content; take another name, or add --over"),
        (["-o", "./painting.png"], "-o painting.png: is a style; take another name, or add"),
        (["-o", "link.png"], "-o link.png: is the content"),
        (["-o", "hard.png"], "-o hard.png: is the content"),
        (["-o", "init.png", "--init", "init.png"], "-o init.png: is the init"),
        (["--losses", "photo.png"], "--losses photo.png: is the content; take another name"),
        (["--losses", "painting.png", "--overwrite"], "--losses painting.png: is a style"),
        (["--checkpoint", "hard.png", "--overwrite"], "--checkpoint hard.png: is the content"),
        (["--losses", "./out.png"], "-o and --losses are one file, out.png"),
        (["--losses", "x", "--checkpoint", "./x"], "--losses and --checkpoint are one file, x"),
        (["--losses", "old.safetensors", "--resume", "old.safetensors"], "is the file of --resume"),
        (["--losses", "vgg.safetensors", "--weights", "vgg.safetensors"], "is the weights"),
        (["--checkpoint", "old.safetensors"], "exists, and may be of another run; go on from it"),
        (
            ["--checkpoint", "old.safetensors", "--resume", "vgg.safetensors"],
            "exists, and may be of another run",
        ),
        (["--preview-every", "2"], "out-00002.png exists, and may be of another run"),
        (
            ["--preview-every", "2", "-o", "new.png", "--losses", "new-00004.png"],
            "a preview would be new-00004.png, which this run uses otherwise",
        ),
        (
            ["--preview-every", "2", "--overwrite", "--init", "out-00002.png"],
            "a preview would be out-00002.png, which this run uses otherwise",
        ),
        (["--preview-every", "2", "-o", "x" * 248 + ".png"], "too long a name to number previews"),
        (
            ["--preview-every", "2", "--overwrite", "-o", "blocked.png"],
            "blocked-00002.png: is a folder, expected a file name",
        ),
        (
            ["--preview-every", "2", "--overwrite", "-o", "piped.png"],
            "piped-00004.png: is a named pipe, expected a file name",
        ),
        (
            ["--preview-every", "2", "--overwrite", "-o", "device.png"],
            "device-00002.png: is a device, expected a file name",
        ),
        (["--losses", "/dev/null"], "/dev/null: is a device, expected a file name"),
        (["--checkpoint", "/dev/null"], "/dev/null: is a device, expected a file name"),
        (["--losses", "x" * 5000], "cannot be written (File name too long)"),
        (["--checkpoint", "x" * 5000], "cannot be written (File name too long)"),
        (
            ["--init", "x" * 5000],
            ": expected content, noise, style, gray, mean, content+noise:SHARE or an image file",
        ),
        (["-o", "~nosuchuser/a.png"], "no user 'nosuchuser'"),
        (["-o", "a.webp", "--size", "16384"], "a side of 16384 px, and .webp holds 16383"),
        (["-o", "a.jpg", "--size", "65501"], "a side of 65501 px, and .jpg holds 65500"),
    ],
)
def test_outputs_that_would_destroy_something_are_refused_before_any_work(
    files, call, monkeypatch, arguments, message
):
    monkeypatch.setattr("stylebench.cli.watched.style_transfer", None)  # it would fail
    before = files()
    code, out, err = call("stylize", "photo.png", "painting.png", *QUICK, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("stylebench: error: ")
    assert message in err
    assert files() == before


@pytest.mark.parametrize(("name", "holds"), [("a.webp", 16383), ("a.jpg", 65500)])
def test_a_content_longer_than_the_format_of_its_output_is_refused(files, call, name, holds):
    for size in ((holds, 2), (3, holds + 1)):
        Image.new("1", size).save("long.png")
        before = files()
        command = ["stylize", "long.png", "painting.png", *QUICK, "--size", "content", "-o", name]
        code, _, err = call(*command)
        assert code == 2
        assert (f"a side of {holds + 1} px" in err) == (max(size) > holds)  # else it is too flat
        assert files() == before


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["-o", "photo.png"], {"photo.png", "link.png"}),
        (["--preview-every", "2"], {"out.png", "out-00002.png", "out-00004.png"}),
        (["--checkpoint", "old.safetensors"], {"out.png", "old.safetensors"}),
    ],
)
def test_overwrite_allows_it(files, call, arguments, changed):
    before = files()
    code, _, _ = call("stylize", "photo.png", "painting.png", *QUICK, *arguments, "--overwrite")
    assert code == 0
    after = files()
    assert {name for name in after if after[name] != before.get(name)} == changed


def test_a_resumed_run_goes_on_in_its_own_checkpoint(folder, call):
    command = ["stylize", "photo.png", "painting.png", *QUICK, "--checkpoint", "a b.safetensors"]
    assert call(*command, "--checkpoint-every", "2")[0] == 0
    again = [*command, "--resume", "./a b.safetensors", "--iterations", "6"]
    assert call(*again)[0] == 0
    assert len(Checkpoint.load(Path("a b.safetensors")).rows) == 6
    code, _, err = call(*command)
    assert code == 2
    assert "--resume 'a b.safetensors'" in err


def test_only_a_checkpoint_of_this_run_is_named_to_go_on_from(folder, call, monkeypatch):
    def stop(self, step):
        if step.iteration == 3:
            raise KeyboardInterrupt

    Path("run.safetensors").write_text("of another run")
    monkeypatch.setattr(Previews, "save", stop)
    command = ["stylize", "photo.png", "painting.png", *QUICK, "--overwrite"]
    for every, told in (("4", False), ("2", True)):
        code, _, err = call(
            *command, "--checkpoint", "run.safetensors", "--checkpoint-every", every
        )
        assert code == 130
        assert ("to go on from the last checkpoint" in err) is told


def test_a_preview_leaves_a_file_alone_that_came_meanwhile(folder, photo):
    previews = Previews(folder / "out.png", 2)
    Path("out-00002.png").write_text("another's")

    def step(iteration):
        return Step(iteration, 4, 1.0, {}, 1.0, 0.5, 1.0, lambda: photo)

    with pytest.warns(UserWarning, match=r"out-00002.png: exists already, and stays as it is"):
        previews.save(step(2))
    previews.save(step(3))
    for _ in range(2):  # its own may be replaced
        previews.save(step(4))
    assert Path("out-00002.png").read_text() == "another's"
    assert sorted(path.name for path in folder.glob("out*")) == ["out-00002.png", "out-00004.png"]


def test_a_preview_that_cannot_be_written_is_named(folder, photo, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("stylebench.image.save.save_picture", full)
    step = Step(2, 4, 1.0, {}, 1.0, 0.5, 1.0, lambda: photo)
    with pytest.raises(FileError, match=r"out-00002.png: the preview cannot be written \(No space"):
        Previews(folder / "out.png", 2).save(step)


def test_an_output_behind_a_link_keeps_link_and_mode(folder, call, photo):
    photo.save("target.png")
    Path("target.png").chmod(0o600)
    Path("out.png").symlink_to("target.png")
    assert call("stylize", "photo.png", "painting.png", *QUICK)[0] == 0
    assert Path("out.png").is_symlink()
    assert stat.S_IMODE(Path("target.png").stat().st_mode) == 0o600
    assert load_image("target.png").size == (21, 32)


def test_homes_are_expanded_in_every_output(folder, call, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    files = ["-o", "~/a.png", "--losses", "~/a.csv", "--checkpoint", "~/a.safetensors"]
    assert call("stylize", "~/photo.png", "~/painting.png", *QUICK, *files)[0] == 0
    assert {"a.png", "a.csv", "a.safetensors"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "-o", "new/folder", "--iterations", "0"],
        ["demo", "-o", "new/folder", "--weights", "absent"],
        ["compare", "photo.png", "absent.png", "-o", "new/folder"],
        ["compare", "-o", "new/folder", "--precision", "fp99"],
        ["report", "absent", "-o", "new/folder"],
        ["report", ".", "-o", "new/folder", "--readme", "absent.md"],
        ["demo", "-o", "photo.png"],
        ["compare", "-o", "photo.png/folder"],
        ["report", ".", "-o", "photo.png"],
    ],
)
def test_nothing_is_made_before_all_is_checked(folder, call, arguments):
    before = sorted(folder.iterdir())
    code, _, err = call(*arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("taken", "arguments", "message"),
    [
        (["content.png", "style.png"], ["demo"], "content.png: exists, and may be of another kind"),
        (["losses.csv"], ["demo"], "losses.csv: exists, and may be of another kind"),
        (["strip.png"], ["compare"], "strip.png: exists, and may be of another kind"),
        (
            ["strip.png", "compare.json"],
            ["compare", "mine/strip.png", "painting.png"],
            "strip.png: is an input, and would be replaced; take another --output",
        ),
    ],
)
def test_a_folder_with_files_of_the_user_is_left_alone(folder, call, taken, arguments, message):
    Path("mine").mkdir()
    for name in taken:
        Path("mine", name).write_text("the user's")
    code, _, err = call(*arguments, "--weights", "random", "-o", "mine")
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert {path.name: path.read_text() for path in Path("mine").iterdir()} == dict.fromkeys(
        taken, "the user's"
    )

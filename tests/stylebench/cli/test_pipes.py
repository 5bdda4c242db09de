"""Pictures through pipes, and folders of styles: what is read, written, and refused."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stylebench.cli import pipes
from stylebench.image.save import read_parameters

QUICK = (
    "--size", "40", "-n", "2", "--weights", "random", "--device", "cpu", "--precision", "fp32",
    "--content-layers", "relu2_1", "--style-layers", "relu1_1,relu2_1",
)  # fmt: skip


class Stdin(io.TextIOWrapper):
    """Standard input that holds bytes, or that is a terminal."""

    def __init__(self, data=b"", terminal=False):
        super().__init__(io.BytesIO(data))
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def piped(folder, monkeypatch):
    """``photo.png`` on standard input."""
    data = (folder / "photo.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", Stdin(data))
    return data


def pixels(source):
    return np.asarray(Image.open(source))


def test_a_pipe_in_and_a_pipe_out_hold_the_picture_of_the_files(folder, call):
    command = [sys.executable, "-m", "stylebench", "stylize", "-", "painting.png", "-o", "-"]
    done = subprocess.run(
        [*command, *QUICK], input=(folder / "photo.png").read_bytes(), capture_output=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert call("stylize", "photo.png", "painting.png", "-o", "file.png", *QUICK)[0] == 0
    assert (pixels(io.BytesIO(done.stdout)) == pixels("file.png")).all()
    assert done.stdout.endswith(b"IEND\xaeB`\x82")  # and nothing after the picture
    assert b"stdout: loss" in done.stderr
    there = sorted(path.name for path in folder.iterdir())
    assert there == ["file.png", "painting.png", "photo.png"]


def test_what_others_print_goes_to_stderr_while_stdout_is_the_pictures(capfd):
    with pipes.stdout_for_picture(True) as stdout:
        os.write(1, b"a library\n")
        os.write(stdout, b"picture")
    os.write(1, b", and after\n")
    assert capfd.readouterr() == ("picture, and after\n", "a library\n")


def test_a_picture_that_nobody_takes_is_kept_and_one_line_says_where(folder, call, monkeypatch):
    def closed(*_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("stylebench.cli.stylize.write_png", closed)
    code, out, err = call("stylize", "photo.png", "painting.png", "-o", "-", "-q", *QUICK)
    assert (code, out) == (4, "")
    assert err == (
        "stylebench: error: stdout: cannot be written ([Errno 32] Broken pipe); the picture is in "
        "stdout-rescued.png\n"
    )
    assert read_parameters("stdout-rescued.png")["iterations_done"] == 2


def test_sixteen_bits_go_through_a_pipe(folder, call, monkeypatch):
    written = []
    monkeypatch.setattr(pipes.os, "write", lambda _, data: written.append(bytes(data)) or len(data))
    code, out, err = call(
        "stylize", "photo.png", "painting.png", "-o", "-", "--bit-depth", "16", "-q", *QUICK
    )
    assert (code, out, err) == (0, "", "")
    assert b"".join(written)[24] == 16  # the depth, in the header


def test_a_checkpoint_knows_the_piped_picture_again(folder, piped, call, monkeypatch):
    saved = ("--checkpoint", "run.safetensors", "--scales", "none")
    assert call("stylize", "-", "painting.png", *QUICK, *saved)[0] == 0
    more = ("--resume", "run.safetensors", "--scales", "none", "-n", "3")
    with Image.open("photo.png") as other:
        other.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("other.png")
    monkeypatch.setattr(sys, "stdin", Stdin((folder / "other.png").read_bytes()))
    code, _, err = call("stylize", "-", "painting.png", *QUICK, *more)
    assert (code, "the content differs" in err) == (2, True), err
    monkeypatch.setattr(sys, "stdin", Stdin(piped))
    code, _, err = call("stylize", "-", "painting.png", *QUICK, *more)
    assert code == 0, err
    assert read_parameters("out.png")["iterations_done"] == 3


def test_a_piped_content_has_its_own_size(folder, piped, call):
    code, _, err = call("stylize", "-", "painting.png", *QUICK[2:], "--size", "content")
    assert (code, pixels("out.png").shape) == (0, (32, 48, 3)), err


def test_a_dry_run_says_its_table_elsewhere_than_the_picture_would_go(folder, piped, call):
    code, out, err = call("stylize", "-", "painting.png", "-o", "-", "--dry-run", *QUICK)
    assert (code, out) == (0, "")
    assert "40 x 27 px" in err


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("-", "painting.png"), Stdin(terminal=True), "- is standard input, which is a terminal"),
        (("photo.png", "-"), None, "- is standard input, which is closed"),
        (("-", "painting.png"), Stdin(), "standard input: is empty, expected an image file"),
        (("-", "painting.png"), Stdin(b"words"), "standard input: not an image"),
        (("-", "-"), Stdin(b"words"), "- is 2 of the pictures, and standard input holds one"),
        (("photo.png", "-", "-"), Stdin(b"words"), "- is 2 of the pictures"),
        (
            ("photo.png", "painting.png", "-o", "-", "--preview-every", "1"), Stdin(),
            "--preview-every 1: previews are named after the picture's file",
        ),
        (
            ("photo.png", "painting.png", "-o", "-", "--bit-depth", "9"), Stdin(),
            "--bit-depth is 9: expected 8 or 16",
        ),
    ],
)  # fmt: skip
def test_what_no_pipe_can_be_is_refused_in_one_line(
    folder, call, monkeypatch, arguments, stdin, message
):
    monkeypatch.setattr(sys, "stdin", stdin)
    code, out, err = call("stylize", *arguments, *QUICK)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"stylebench: error: {message}")


@pytest.mark.parametrize(("terminal", "closed"), [(True, False), (False, True)])
def test_a_stdout_that_a_picture_is_not_for_is_refused(folder, call, monkeypatch, terminal, closed):
    monkeypatch.setattr(pipes.os, "isatty", lambda _: terminal)
    monkeypatch.setattr(pipes.streams, "_closed", {1} if closed else set())
    code, out, err = call("stylize", "photo.png", "painting.png", "-o", "-", *QUICK)
    assert (code, out) == (2, "")
    assert f"-o - is standard output, which is {'a terminal' if terminal else 'closed'}: " in err


def test_a_texture_takes_its_style_from_a_pipe(folder, piped, call):
    texture = ["texture", "painting.png", "-", *QUICK[:8], "--style-layers", "relu1_1", "-q"]
    assert call(*texture, "-o", "piped.png") == (0, "", "")
    texture[2] = "photo.png"
    assert call(*texture, "-o", "file.png") == (0, "", "")
    assert (pixels("piped.png") == pixels("file.png")).all()
    code, _, err = call("texture", "-", "-", *QUICK[:8], "-o", "a.png")
    assert (code, err.count("\n")) == (2, 1)
    assert "- is 2 of the pictures, and standard input holds one" in err


def test_a_figure_takes_its_content_from_a_pipe(folder, piped, call, shallow_presets):
    figure = ["figure", "content-layer", "photo.png", "painting.png", *QUICK[:8], "-q"]
    figure[4:4] = ["-o", "file.png"]
    assert call(*figure) == (0, "", "")
    figure[2], figure[5] = "-", "piped.png"
    assert call(*figure) == (0, "", "")
    assert (pixels("piped.png") == pixels("file.png")).all()


def test_where_no_pipe_is_read_a_line_says_where_one_is(folder, call):
    code, _, err = call("compare", "-", "painting.png", *QUICK[:4])
    assert (code, err.count("\n")) == (2, 1)
    assert "-: no such file; standard input is the content or a style of 'stylebench styl" in err


def test_a_file_behind_stdin_is_not_replaced(folder, piped, call, monkeypatch):
    monkeypatch.setattr("stylebench.cli.inputs.STDIN_FILE", folder / "photo.png")
    code, _, err = call("stylize", "-", "painting.png", "-o", "photo.png", *QUICK)
    assert code == 2
    assert "-o photo.png: is the content; take another name" in err


@pytest.fixture
def styles(folder, photo, painting):
    """A folder of two pictures, and more."""
    (folder / "styles" / "more").mkdir(parents=True)
    painting.save(folder / "styles" / "b10.png")
    photo.rotate(9).save(folder / "styles" / "b9.png")
    (folder / "styles" / "notes.txt").write_text("no picture")
    (folder / "styles" / ".hidden.png").write_text("no picture")
    return folder


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_folder_of_styles_is_its_pictures_by_name(styles, call):
    shares = ("--style-weights", "2,1")
    code, _, err = call("stylize", "photo.png", "styles", *QUICK, *shares)
    assert code == 0
    line = "warning: styles: left out, since they are no pictures: more, notes.txt\n"
    assert err.count(line) == 1
    files = ("styles/b9.png", "styles/b10.png")
    assert call("stylize", "photo.png", *files, "-o", "files.png", *QUICK, *shares)[0] == 0
    assert (pixels("out.png") == pixels("files.png")).all()
    code, _, err = call("batch", "photo.png", "--style", "styles", *QUICK[:8], *shares)
    assert code == 0, err
    assert read_parameters("out/photo.png")["style_weights"] == [2 / 3, 1 / 3]


def test_a_folder_of_styles_without_a_picture_is_named(styles, call):
    line = "stylebench: error: styles/more: has no pictures, expected files as .png or .jpg in it\n"
    assert call("stylize", "photo.png", "styles/more", *QUICK) == (2, "", line)
    assert call("batch", "photo.png", "--style", "styles/more") == (2, "", line)


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_picture_of_a_folder_of_styles_is_not_replaced(styles, call):
    code, _, err = call("stylize", "photo.png", "styles", "-o", "styles/b9.png", *QUICK)
    assert code == 2
    assert "-o styles/b9.png: is a style; take another name" in err

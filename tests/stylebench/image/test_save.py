"""Saved images: values, alpha, parameters and atomic writes, in every format."""

import os
import stat

import numpy as np
import pytest
import torch
from PIL import Image

from stylebench.files.paths import FileError
from stylebench.image.load import ImageError, load_image
from stylebench.image.save import check_output, read_parameters, save_image, to_pil

PARAMETERS = {"preset": "paper", "seed": 3, "note": "größer"}


@pytest.fixture
def rgb(photo):
    return load_image(photo).rgb


@pytest.fixture
def alpha(rgb):
    return torch.linspace(0, 1, rgb[0].numel()).view(1, *rgb.shape[1:])


@pytest.mark.parametrize(
    ("name", "bit_depth"), [("a.png", 8), ("a.tiff", 8), ("a.png", 16), ("a.tif", 16)]
)
def test_lossless_formats_keep_values_to_half_a_step(tmp_path, rgb, name, bit_depth):
    values = rgb * 0.987 + 0.0031  # between the steps of 8 bits
    path = save_image(tmp_path / name, values, None, PARAMETERS, bit_depth)
    rounding = 0.5 / (2**bit_depth - 1) + 2**-24  # and that of fp32
    assert (load_image(path).rgb - values).abs().max() <= rounding
    assert read_parameters(path) == PARAMETERS


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_lossy_formats_keep_the_picture_and_the_parameters(tmp_path, rgb, name):
    path = save_image(tmp_path / name, rgb, None, PARAMETERS)
    assert (load_image(path).rgb - rgb).abs().mean() < 0.02
    assert read_parameters(path) == PARAMETERS


@pytest.mark.parametrize(
    ("name", "bit_depth"),
    [("a.png", 8), ("a.webp", 8), ("a.tiff", 8), ("a.png", 16), ("a.tiff", 16)],
)
def test_alpha_is_kept_where_the_format_has_it(tmp_path, rgb, alpha, name, bit_depth):
    path = save_image(tmp_path / name, rgb, alpha, PARAMETERS, bit_depth)
    found = load_image(path).alpha
    assert found is not None
    assert (found - alpha).abs().max() <= 0.51 / 255
    assert read_parameters(path) == PARAMETERS


def test_jpeg_drops_alpha(tmp_path, rgb, alpha):
    assert load_image(save_image(tmp_path / "a.jpeg", rgb, alpha)).alpha is None


def test_other_readers_understand_sixteen_bit_files(tmp_path, rgb):
    for name in ("a.png", "a.tiff"):
        with Image.open(save_image(tmp_path / name, rgb, None, PARAMETERS, 16)) as image:
            image.load()
            assert image.size == (48, 32)


def test_values_are_rounded_and_clamped():
    values = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 2.0]).view(1, 2, 2).expand(3, 2, 2)
    assert np.asarray(to_pil(values))[..., 0].flatten().tolist() == [0, 0, 1, 255]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, rgb, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_image(path, rgb)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_files_get_the_users_usual_permissions(tmp_path, rgb):
    mask = os.umask(0o022)
    try:
        path = save_image(tmp_path / "a.png", rgb)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_foreign_files_have_no_parameters(tmp_path, photo):
    photo.save(tmp_path / "a.png")
    assert read_parameters(tmp_path / "a.png") is None


def test_impossible_outputs_are_refused_before_the_run(tmp_path):
    with pytest.raises(ImageError, match=r"unknown image extension '.bmp'; expected .png, .jpg"):
        check_output(tmp_path / "a.bmp")
    with pytest.raises(FileError, match=r"the folder .* does not exist"):
        check_output(tmp_path / "absent" / "a.png")
    with pytest.raises(ImageError, match=r"a.jpg: .jpg has no 16 bits; use .png or .tiff"):
        check_output(tmp_path / "a.jpg", 16)
    with pytest.raises(ImageError, match="a bit depth of 12: expected 8 or 16"):
        check_output(tmp_path / "a.png", 12)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(FileError, match="is a folder, expected a file name"):
        check_output(tmp_path / "folder.png")


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    # Denied by hand: root, as which containers run, may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(FileError, match="cannot be written to"):
        check_output(tmp_path / "a.png")

"""Saved images: values, alpha, parameters and atomic writes, in every format."""

import os
import stat

import numpy as np
import pytest
import torch
from PIL import Image

from stylebench.files.paths import FileError
from stylebench.image.load import ImageError, load_image
from stylebench.image.metadata import Metadata, read_metadata
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
    with pytest.raises(ValueError, match="bit_depth is 12: expected 8 or 16"):
        check_output(tmp_path / "a.png", 12)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(FileError, match="is a folder, expected a file name"):
        check_output(tmp_path / "folder.png")


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    # Denied by hand: root, as which containers run, may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(FileError, match="cannot be written to"):
        check_output(tmp_path / "a.png")


METADATA = Metadata("Jane Größe", "© 2026 Jane", (300.0, 150.0))


@pytest.mark.parametrize(
    ("name", "bit_depth"),
    [("a.png", 8), ("a.jpg", 8), ("a.webp", 8), ("a.tiff", 8), ("a.png", 16), ("a.tiff", 16)],
)
def test_artist_copyright_and_resolution_are_kept(tmp_path, rgb, name, bit_depth):
    path = save_image(tmp_path / name, rgb, None, PARAMETERS, bit_depth, METADATA)
    found = load_image(path).metadata
    assert (found.artist, found.copyright) == (METADATA.artist, METADATA.copyright)
    assert found.dpi == pytest.approx(METADATA.dpi, rel=1e-4)
    assert read_parameters(path) == PARAMETERS


def test_a_pil_image_brings_its_metadata_and_an_array_has_none(tmp_path, rgb):
    path = save_image(tmp_path / "a.jpg", rgb, None, None, 8, METADATA)
    with Image.open(path) as image:
        assert read_metadata(image).artist == METADATA.artist
    assert read_metadata(rgb.numpy()) == Metadata()


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 1), (-1, 3), ("a", 1), (1e300, 1e300)])
def test_a_broken_resolution_is_none(photo, dpi):
    image = photo.copy()
    image.info["dpi"] = dpi
    assert read_metadata(image).dpi is None


@pytest.mark.parametrize(
    ("name", "longest", "message"),
    [
        ("a.webp", 16_384, r"a side of 16384 px, and .webp holds 16383; use .png or .tiff"),
        ("a.jpg", 65_501, r"a side of 65501 px, and .jpg holds 65500; use .png or .tiff"),
    ],
)
def test_a_format_that_is_too_small_is_refused(tmp_path, name, longest, message):
    assert check_output(tmp_path / name, 8, longest - 1) == tmp_path / name
    with pytest.raises(ImageError, match=message):
        check_output(tmp_path / name, 8, longest)
    with pytest.raises(ImageError, match=message):
        save_image(tmp_path / name, torch.zeros(3, 1, longest))
    assert list(tmp_path.iterdir()) == []


def test_parameters_that_a_jpeg_cannot_hold_are_left_out_with_a_warning(tmp_path, rgb):
    long = {"style_weights": [1 / 3] * 5000}
    with pytest.warns(UserWarning, match=r"take \d+ bytes, and .jpg holds 65000"):
        path = save_image(tmp_path / "a.jpg", rgb, None, long)
    assert read_parameters(path) is None
    assert read_parameters(save_image(tmp_path / "a.png", rgb, None, long)) == long


def test_a_link_and_a_mode_stay(tmp_path, rgb):
    path, link = tmp_path / "a.png", tmp_path / "link.png"
    save_image(path, rgb)
    path.chmod(0o600)
    link.symlink_to(path)
    save_image(link, 1 - rgb)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (load_image(path).rgb - (1 - rgb)).abs().max() < 0.01

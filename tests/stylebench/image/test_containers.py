"""Files of several pictures, and those that not every Pillow reads."""

import io
import sys
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from stylebench.image.folder import pictures_in
from stylebench.image.load import ImageError, load_bytes, load_image

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
AVIF = b"\0\0\0\x18ftypmif1\0\0\0\0miafavif" + bytes(64)
ORIENTATION = 0x0112


def pixels(picture):
    """[H, W, 3] in 0 .. 255, unrounded."""
    return picture.rgb.permute(1, 2, 0).numpy() * 255


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_of_several_pictures_the_first_is_read_and_one_line_tells_how_many(tmp_path, kind):
    first, second, third = (Image.new("RGB", (40, 32), color) for color in ("red", "blue", "lime"))
    path = tmp_path / f"film.{kind.lower()}"
    first.save(
        path,
        save_all=True,
        append_images=[second, third],
        **({} if kind in ("GIF", "TIFF") else {"lossless": True}),
    )
    how = "holds several pictures" if kind == "TIFF" else "is animated"
    with pytest.warns(UserWarning, match=" is read$") as told:
        picture = load_image(path)
    (line,) = told
    assert (
        str(line.message)
        == f"{path}: {how}, and the first of 3{' frames' * (kind != 'TIFF')} is read"
    )
    np.testing.assert_allclose(pixels(picture)[16, 20], (255, 0, 0), atol=2)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_of_one_picture_nothing_is_told(photo, kind):
    file = io.BytesIO()
    photo.save(file, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_bytes(file.getvalue(), "photo").size == (32, 48)


def test_a_film_that_breaks_off_after_its_first_picture_is_read(tmp_path):
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (2, 32, 40), dtype=np.uint8)
    one, two = map(Image.fromarray, noise)
    one.save(file, "GIF", save_all=True, append_images=[two])
    cut = file.getvalue()[: int(0.9 * len(file.getvalue()))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(pixels(load_bytes(cut, "film"))[..., 0], noise[0], atol=0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_upright_as_other_formats_are(photo, orientation):
    if "AVIF" not in Image.OPEN:
        pytest.skip("this Pillow reads no AVIF")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    photo.save(file, "AVIF", quality=95, exif=exif.tobytes())
    tagged = photo.copy()
    tagged.getexif()[ORIENTATION] = orientation
    upright = np.asarray(ImageOps.exif_transpose(tagged)).astype(float)
    error = np.abs(pixels(load_bytes(file.getvalue(), "photo.avif")) - upright)
    assert error.mean() < 8  # of 255; a wrong one is off by 40 and more


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_is_read_where_pillow_heif_is(photo, orientation):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x013B] = "An artist"
    tagged = photo.copy()
    tagged.info["exif"] = exif.tobytes()
    file = io.BytesIO()
    tagged.save(file, "HEIF", quality=95)
    picture = load_bytes(file.getvalue(), "photo.heic")
    assert picture.size == ((32, 48) if orientation == 1 else (48, 32))
    assert picture.metadata.artist == "An artist"


def test_a_format_without_its_reader_is_named_with_what_to_install(tmp_path, monkeypatch):
    Image.init()
    for kind in ("HEIF", "AVIF"):
        monkeypatch.delitem(Image.OPEN, kind, raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # importing it fails
    for data, name, advice in (
        (HEIC, "photo.heic", "is HEIF, which needs a reader: pip install pillow-heif"),
        (AVIF, "photo.jpg", "is AVIF, which Pillow 11.3 reads: pip install 'pillow>=11.3'"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError) as error:
            load_image(tmp_path / name)
        assert str(error.value) == f"{tmp_path / name}: {advice}"


def test_bytes_that_end_within_their_brands_are_no_image():
    for data in (b"\0\0\0\x18ftyp", b"\0\0\0\0ftypabcd", b"\xff\xff\xff\xffftypabcdef"):
        with pytest.raises(ImageError, match="not an image"):
            load_bytes(data, "bytes")


def test_a_folder_has_its_pictures_in_order_and_nothing_else(tmp_path):
    for name in ("b10.jpg", "b9.PNG", "a.heic", ".c.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in pictures_in(tmp_path)] == ["a.heic", "b9.PNG", "b10.jpg"]

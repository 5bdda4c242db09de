"""Every kind of image that can be loaded, and the errors of those that cannot."""

import io
import os
import struct
import subprocess
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps
from torch._subclasses.fake_tensor import FakeTensorMode

from stylebench.image.load import ImageError, fit, load_image, resize


def pixels(picture):
    """[H, W, 3] in 0 .. 255, unrounded."""
    return picture.rgb.permute(1, 2, 0).numpy() * 255


def write(tmp_path, image, name="image.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_path_pil_array_and_tensor_are_the_same_picture(tmp_path, photo):
    array = np.asarray(photo)
    sources = [
        write(tmp_path, photo),
        str(write(tmp_path, photo)),
        photo,
        array,
        array.astype(np.float64) / 255,
        array.astype(np.uint16) * 257,
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        torch.from_numpy(array / 255.0).permute(2, 0, 1)[None],
    ]
    for source in sources:
        picture = load_image(source)
        assert picture.rgb.dtype == torch.float32
        assert picture.alpha is None
        np.testing.assert_allclose(pixels(picture), array, atol=1e-4)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "HSV", "CMYK", "I;16", "I", "F"])
def test_each_opaque_mode_reads_as_its_rgb(photo, mode):
    gray = photo.convert("L")
    expected = np.asarray(
        photo.convert(mode).convert("RGB") if mode != "F" else gray.convert("RGB")
    )
    image = {
        "I;16": lambda: Image.fromarray(np.asarray(gray).astype(np.uint16) * 257),
        "I": lambda: Image.fromarray(np.asarray(gray).astype(np.int32) * 257),
        "F": lambda: Image.fromarray(np.asarray(gray).astype(np.float32) / 255),
    }.get(mode, lambda: photo.convert(mode))()
    assert image.mode == mode
    if mode in ("I", "I;16"):
        expected = np.asarray(gray.convert("RGB"))
    np.testing.assert_allclose(pixels(load_image(image)), expected, atol=1e-3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "RGBa", "La"])
def test_each_mode_with_alpha_is_composited_over_white_and_keeps_it(photo, mode):
    alpha = Image.new("L", photo.size, 255)
    alpha.paste(0, (0, 0, 24, 32))
    base = photo.convert("L") if mode in ("LA", "La") else photo
    image = base.copy()
    image.putalpha(alpha)
    if mode == "P":
        image = base.quantize(200)
        image.info["transparency"] = image.getpixel((0, 0))
        alpha = image.convert("RGBA").getchannel("A")
    elif mode == "PA":
        image = base.quantize(200).convert("PA")
        image.putalpha(alpha)
    elif mode in ("RGBa", "La"):
        image = image.convert(mode)
    assert image.mode == mode
    picture = load_image(image)
    assert picture.alpha is not None
    np.testing.assert_allclose(picture.alpha[0].numpy() * 255, np.asarray(alpha), atol=1e-4)
    hidden = np.asarray(alpha) == 0
    assert (pixels(picture)[hidden] == 255).all()
    straight = image.convert("LA") if mode == "La" else image
    shown = np.asarray(straight.convert("RGBA"))[..., :3][~hidden]
    np.testing.assert_allclose(pixels(picture)[~hidden], shown, atol=1.01)


def test_an_alpha_that_hides_nothing_is_dropped(photo):
    assert load_image(photo.convert("RGBA")).alpha is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(tmp_path, photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path, photo, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_allclose(pixels(load_image(path)), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("deep.png", 2), ("deep.png", 3), ("deep.png", 4), ("deep.tiff", 3), ("deep.tiff", 4)],
)
def test_sixteen_bits_are_kept(tmp_path, name, channels):
    values = np.random.default_rng(0).integers(0, 65536, size=(6, 9, channels), dtype=np.uint16)
    if channels in (2, 4):
        values[..., -1] = 65535
    path = tmp_path / name
    if name.endswith("png"):
        path.write_bytes(imagecodecs.png_encode(values))
    else:
        extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        tifffile.imwrite(path, values, photometric="rgb", compression="lzw", **extra)
    colors = values[..., :-1] if channels in (2, 4) else values
    expected = np.broadcast_to(colors / 65535, (6, 9, 3))
    found = load_image(path).rgb.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_planar_sixteen_bit_tiff_is_read(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, size=(3, 6, 9), dtype=np.uint16)
    path = tmp_path / "planar.tiff"
    tifffile.imwrite(path, values, photometric="rgb", planarconfig="separate")
    np.testing.assert_allclose(load_image(path).rgb.numpy(), values / 65535, atol=1e-6)


def wide_gamut_profile():
    """An RGB profile with red and green swapped: nothing could mistake it for sRGB."""
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", srgb[128:132])[0]
    tags = {bytes(srgb[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    srgb[red + 4 : red + 12], srgb[green + 4 : green + 12] = (
        srgb[green + 4 : green + 12],
        srgb[red + 4 : red + 12],
    )
    return bytes(srgb)


def test_embedded_profile_is_converted_to_srgb(tmp_path, photo):
    path = write(tmp_path, photo, icc_profile=wide_gamut_profile())
    red, green, blue = np.asarray(photo).transpose(2, 0, 1)
    swapped = np.stack([green, red, blue], axis=-1)
    np.testing.assert_allclose(pixels(load_image(path)), swapped, atol=3)


def test_embedded_profile_is_converted_in_sixteen_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, size=(6, 9, 3), dtype=np.uint16)
    path = tmp_path / "deep.tiff"
    tifffile.imwrite(path, values, photometric="rgb", iccprofile=wide_gamut_profile())
    swapped = values[..., [1, 0, 2]] / 65535
    found = load_image(path).rgb.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, swapped, atol=0.01)


def test_a_profile_and_alpha_are_both_applied(tmp_path, photo):
    image = photo.copy()
    image.putalpha(128)
    picture = load_image(write(tmp_path, image, icc_profile=wide_gamut_profile()))
    red, green, blue = np.asarray(photo).transpose(2, 0, 1)
    expected = np.stack([green, red, blue], axis=-1) * (128 / 255) + 127
    np.testing.assert_allclose(pixels(picture), expected, atol=3)


def test_a_broken_profile_is_read_as_srgb_with_a_warning(tmp_path, photo):
    path = write(tmp_path, photo, icc_profile=b"no profile")
    with pytest.warns(UserWarning, match="ICC profile cannot be used"):
        picture = load_image(path)
    np.testing.assert_allclose(pixels(picture), np.asarray(photo), atol=1e-4)


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
@pytest.mark.parametrize("profile", [b"no profile", wide_gamut_profile()[:200]])
def test_a_broken_profile_is_read_as_srgb_with_a_warning_in_sixteen_bits(tmp_path, name, profile):
    values = np.random.default_rng(0).integers(0, 65536, size=(6, 9, 3), dtype=np.uint16)
    path = tmp_path / name
    if name.endswith("png"):
        path.write_bytes(with_profile(imagecodecs.png_encode(values), profile))
    else:
        tifffile.imwrite(path, values, photometric="rgb", iccprofile=profile)
    with pytest.warns(UserWarning, match="ICC profile cannot be used"):
        picture = load_image(path)
    np.testing.assert_allclose(picture.rgb.permute(1, 2, 0).numpy(), values / 65535, atol=1e-6)


def with_profile(png, profile):
    """The bytes of a PNG with an ICC profile after its header."""
    return png[:33] + chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile)) + png[33:]


def test_lab_is_converted(photo):
    lab = Image.new("LAB", (4, 4), (255, 128, 128))  # white: L = 100, a = b = 0
    np.testing.assert_allclose(pixels(load_image(lab)), 255, atol=2)


def test_first_frame_of_an_animation_is_used(tmp_path, photo, painting):
    frames = [photo.convert("P"), painting.resize(photo.size).convert("P")]
    path = write(tmp_path, frames[0], "film.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="the first of 2 frames is read"):
        picture = load_image(path)
    np.testing.assert_allclose(pixels(picture), np.asarray(frames[0].convert("RGB")))


def chunk(kind, data):
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb():
    """A PNG that claims 40,000 x 40,000 pixels."""
    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_each_file_that_is_no_image_gets_its_own_message(tmp_path, photo):
    whole = io.BytesIO()
    photo.save(whole, "PNG")
    files = {
        "empty.png": (b"", "is empty"),
        "text.png": (b"hello", "not an image, or of a format that is not read"),
        "half.png": (whole.getvalue()[:-40], "corrupt, incomplete or closed"),
        "bomb.png": (bomb(), "too many pixels to be a picture"),
    }
    for name, (data, message) in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ImageError, match=f"{name}: {message}"):
            load_image(path)
    with pytest.raises(ImageError, match=r"absent.png: no such file"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match=r"^https://x/y.png: is an address, and only files of"):
        load_image("https://x/y.png")
    with pytest.raises(ImageError, match="is a folder, expected an image file"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="1 x 1 px is too small"):
        load_image(write(tmp_path, Image.new("RGB", (1, 1)), "one.png"))


def quantized():
    with warnings.catch_warnings(action="ignore"):  # deprecated, and some still have such
        return torch.quantize_per_tensor(torch.zeros(3, 4, 4), 1.0, 0, torch.quint8)


def nested(layout):
    with warnings.catch_warnings(action="ignore"):  # a prototype
        return torch.nested.nested_tensor([torch.zeros(4, 4)], layout=layout)


def masked():
    with warnings.catch_warnings(action="ignore"):  # a prototype
        return torch.masked.masked_tensor(torch.eye(4), torch.eye(4) > 0)


def fake():
    with FakeTensorMode():
        return torch.zeros(3, 4, 4)


def freed():
    tensor = torch.zeros(3, 4, 4)
    tensor.untyped_storage().resize_(0)
    return tensor


def saved():
    file = io.BytesIO()
    Image.effect_noise((64, 64), 99).save(file, "JPEG")
    return file.getvalue()


def closed():
    image = Image.open(io.BytesIO(saved()))
    image.close()
    return image


def truncated():
    return Image.open(io.BytesIO(saved()[:-100]))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 5), np.uint8), r"shape \(4, 4, 5\) is not an image"),
        (np.zeros((2, 4, 4, 3), np.uint8), "is not an image"),
        (np.zeros((1, 9, 3), np.uint8), "9 x 1 px is too small; every side needs 2 px"),
        (np.zeros((4, 4), np.int64), "dtype int64; expected uint8, uint16 or float"),
        (np.full((4, 4), 1.5), r"float values span 1.5 .. 1.5; expected 0 .. 1"),
        (np.full((4, 4), np.nan), "float values span nan .. nan"),
        (torch.full((3, 4, 4), -0.1), "float values span -0.1 .. -0.1"),
        (Image.fromarray(np.full((4, 4), 70000, np.int32)), r"gray values span 70000 .. 70000"),
        (42, "int is no image: expected a path, PIL image, array or tensor"),
        (["a.png", "b.png"], "a list of 2 is no image: expected one path.*only the style may be"),
        (np.zeros((4, 4), complex), "dtype complex128; expected uint8, uint16 or float"),
        (np.full((4, 4, 3), None), "dtype object; expected"),
        (np.zeros((0, 5, 3), np.uint8), "5 x 0 px is too small"),
        (torch.zeros(3, 4, 4, device="meta"), "is on the device meta, without values"),
        (torch.zeros(3, 4, 4).to_sparse(), "is of the layout sparse_coo"),
        (torch.zeros(3, 4, 4, dtype=torch.complex64), "is of the dtype complex64"),
        (torch.zeros(3, 4, 4).to(torch.float8_e4m3fn), "is of the dtype float8_e4m3fn"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "is of the dtype int64; expected a dense tensor"),
        (quantized(), "is of the dtype quint8"),
        (freed(), "is without values, whose memory was freed"),
        (nested(torch.strided), "is nested"),
        (nested(torch.jagged), "is nested"),
        (np.ma.masked_less(np.eye(4), 1), r"array: has masked values; .*array.filled\(0\)"),
        (masked(), "is a MaskedTensor, a kind of its own"),
        (fake(), "is a FakeTensor, a kind of its own"),
        (closed(), r"PIL image: corrupt, incomplete or closed \("),
        (truncated(), r"PIL image: corrupt, incomplete or closed \(.*truncated"),
    ],
)
def test_arrays_that_are_no_image_are_refused_by_value(source, message):
    with pytest.raises(ImageError, match=message):
        load_image(source)


@pytest.mark.parametrize("mask", [np.ma.nomask, False])
def test_an_array_whose_mask_hides_nothing_is_a_picture(photo, mask):
    array = np.asarray(photo)
    assert torch.equal(load_image(np.ma.array(array, mask=mask)).rgb, load_image(array).rgb)


@pytest.mark.parametrize("dtype", [">u2", ">f4", ">f8", "<f4", "f2", "?"])
def test_arrays_of_either_byte_order_are_the_same_picture(photo, dtype):
    gray = np.asarray(photo.convert("1" if dtype == "?" else "L")) * 1.0
    gray /= gray.max()
    array = (gray * (65535 if dtype == ">u2" else 1)).astype(dtype)
    np.testing.assert_allclose(load_image(array).rgb[0].numpy(), gray, atol=1e-3)


def test_postscript_starts_no_program_whatever_its_name(tmp_path, photo, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: started.append(args))
    for kind in ("EPS", "PDF"):
        photo.save(tmp_path / "photo.jpg", kind)
        with pytest.raises(ImageError, match="of a format that is not read; expected one of PNG"):
            load_image(tmp_path / "photo.jpg")
    assert started == []


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "JPEG2000", "GIF", "BMP", "PPM", "TGA", "SGI"]
)
def test_ordinary_formats_are_read_whatever_their_name(tmp_path, photo, kind):
    photo.save(tmp_path / "photo", kind)
    assert load_image(tmp_path / "photo").size == (32, 48)


def test_broken_exif_data_is_no_orientation(tmp_path, photo):
    photo.save(tmp_path / "photo.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    np.testing.assert_allclose(pixels(load_image(tmp_path / "photo.png")), np.asarray(photo))


def test_files_that_are_not_files_are_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(60 * 10**9)
    names = {
        tmp_path / "pipe.png": "is a named pipe, expected an image file",
        Path("/dev/zero"): "is a device, expected an image file",
        tmp_path / "sparse.png": "has 57220 MiB, more than the 2048 MiB that an image file may",
        Path("~nosuchuser/photo.png"): "this machine has no user 'nosuchuser'",
        tmp_path / "a\0b.png": "cannot be read",
        tmp_path / ("a" * 5000): "cannot be read .*name too long",
        tmp_path: "is a folder, expected an image file: a run takes one content",
    }
    for path, message in names.items():
        with pytest.raises(ImageError, match=message):
            load_image(path)


def test_fit_keeps_the_aspect_and_the_longest_side():
    assert fit((300, 400), 200) == (150, 200)
    assert fit((400, 300), 1000) == (1000, 750)
    assert fit((1000, 3), 100) == (100, 1)


def test_resizing_antialiases_and_stays_in_range():
    checks = torch.zeros(3, 64, 64)
    checks[:, ::2, ::2] = checks[:, 1::2, 1::2] = 1.0
    small = resize(checks, (16, 16))
    assert small.shape == (3, 16, 16)
    assert (small - 0.5).abs().max() < 0.1  # without antialiasing it would be 0 or 1
    edge = torch.zeros(3, 8, 8)
    edge[:, :, 4:] = 1.0
    assert resize(edge, (32, 32)).min() >= 0  # bicubic overshoots
    assert resize(edge, (8, 8)) is edge

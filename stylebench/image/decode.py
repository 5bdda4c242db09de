"""Image files and PIL images, decoded: [H, W] or [H, W, C] arrays, upright, in sRGB."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from stylebench.files.paths import FileError, expand, special_kind
from stylebench.files.reading import read_file
from stylebench.image.heif import missing_reader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

#: Formats that are read, those that this Pillow has: pictures of pixels alone. Pillow would start
#: Ghostscript for PostScript, whatever the file's name.
FORMATS = (
    "PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF", "JXL", "JPEG2000", "GIF", "BMP", "DIB", "PPM",
    "TGA", "ICO", "PCX", "PSD", "QOI", "SGI",
)  # fmt: skip
_LARGEST_FILE = 2**31  # bytes; Pillow's limit of pixels is 1.4 GB at 16 bits and four channels
_BLOCK = 2**20  # bytes of a stream that are read at once
_ONE_BY_ONE = ": a run takes one content and one or more styles, each by its file name"
_PIPED = (
    "; standard input is the content or a style of 'stylebench stylize', 'texture' and 'figure'"
)
#: Formats of which a file may hold several pictures -> how that is said.
_SEVERAL = {
    **dict.fromkeys(("GIF", "WEBP", "PNG", "AVIF"), "is animated, and the first of {} frames"),
    "TIFF": "holds several pictures, and the first of {}",
    "HEIF": "holds several pictures, and the main one of {}",
}
_ORIENTATION_TAG, _BITS_PER_SAMPLE_TAG = 0x0112, 0x0102


class ImageError(FileError):
    """An image cannot be read, used or written; the message names it and the reason."""


def decode_file(path: str | Path) -> Array:
    """The pixels of an image file; of several pictures in it the first, with a warning.

    Raises:
        ImageError: missing, no ordinary file, too large, of an unknown format, or corrupt.
    """
    path, data = _read(path)
    return decode_bytes(data, str(path))


def decode_bytes(data: bytes, name: str) -> Array:
    """As ``decode_file``, of a file's bytes; ``name`` is what messages call it."""
    with _opened(data, name) as image:
        deep = _deep_pixels(image, data, name)
        pixels = _pixels(image, name) if deep is None else deep
        kind = image.format or ""
    _tell_of_several(kind, data, name)
    return pixels


def longest_side(path: Path) -> int:
    """The longest side of an image file in pixels, of which no pixel is decoded.

    Raises:
        ImageError: as ``decode_file``, but for pixels that are corrupt.
    """
    path, data = _read(path)
    with _opened(data, str(path)) as image:
        return max(image.size)


def read_stream(stream: BinaryIO, name: str) -> bytes:
    """The bytes of an image file from a stream, whose length is known only at its end.

    Raises:
        ImageError: it is empty, too large for a picture, or breaks off.
    """
    blocks: list[bytes] = []
    try:
        while block := stream.read(_BLOCK):
            blocks.append(block)
            if len(blocks) * _BLOCK > _LARGEST_FILE:
                raise ImageError(f"{name}: is more than the {_LARGEST_FILE} bytes of an image file")
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror})") from error
    if not blocks:
        raise ImageError(f"{name}: is empty, expected an image file")
    return b"".join(blocks)


def _read(path: str | Path) -> tuple[Path, bytes]:
    """``path`` with its ``~`` expanded, and the file's bytes."""
    try:
        path = expand(path)
        return path, read_file(path, _LARGEST_FILE, "an image file")
    except FileError as error:
        advice = _PIPED if str(path) == "-" else ""
        if special_kind(Path(path)) == "a folder":
            advice = _ONE_BY_ONE
        raise ImageError(f"{error}{advice}") from error


def decode_pil(image: Image.Image) -> Array:
    """The pixels of a PIL image of any mode.

    Raises:
        ImageError: it is closed, truncated, or out of range.
    """
    with _decoding("PIL image"):
        return _pixels(image, "PIL image")


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """The picture in ``data``, whose pixels are still to be decoded."""
    if reason := missing_reader(data):
        raise ImageError(f"{name}: {reason}")
    with _decoding(name), Image.open(io.BytesIO(data), formats=_formats()) as image:
        yield image


def _tell_of_several(kind: str, data: bytes, name: str) -> None:
    """Warn that a file of the format ``kind`` holds more pictures than the one that was read."""
    if kind not in _SEVERAL:
        return
    frames = 1
    # Faults of pictures after the first, which nobody asked for.
    with suppress(Exception), Image.open(io.BytesIO(data), formats=[kind]) as image:
        frames = getattr(image, "n_frames", 1)
    if frames > 1:
        warnings.warn(f"{name}: {_SEVERAL[kind].format(frames)} is read", stacklevel=2)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Faults of decoders as ``ImageError``."""
    try:
        with warnings.catch_warnings():
            # Pillow warns above its limit, as for large photographs, and raises above twice that.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: too many pixels to be a picture ({error}); raise PIL.Image.MAX_IMAGE_PIXELS "
            "if it is one"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: not an image, or of a format that is not read; expected one of "
            f"{', '.join(_formats())}"
        ) from error
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more
        raise ImageError(f"{name}: corrupt, incomplete or closed ({error})") from error


def _deep_pixels(image: Image.Image, data: bytes, name: str) -> Array | None:
    """16-bit color, which Pillow would cut to 8 bits: [H, W, C] uint16; None for other images."""
    if image.mode not in ("RGB", "RGBA", "LA") or not _has_sixteen_bits(image):
        return None
    if image.format == "PNG":
        import imagecodecs

        array: Array = imagecodecs.png_decode(data)
    else:
        import tifffile

        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            array = page.asarray()
            if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.dtype != np.uint16 or array.shape[2] not in (2, 3, 4):
        return None
    profile = image.info.get("icc_profile")
    if profile and array.shape[2] >= 3:
        array = _deep_to_srgb(array, profile, name)
    return _upright(array, _orientation(image))


def _deep_to_srgb(array: Array, profile: bytes, name: str) -> Array:
    """[H, W, 3 or 4] uint16 in a profile's colors -> the same in sRGB."""
    import imagecodecs

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    try:
        colors = imagecodecs.cms_transform(
            np.ascontiguousarray(array[..., :3]), profile, srgb, colorspace="rgb",
            outcolorspace="rgb", outdtype="uint16",
        )  # fmt: skip
    except Exception as error:  # its own error, and those of profiles of other colors
        _warn_of_profile(name, error)
        return array
    return np.concatenate([colors, array[..., 3:]], axis=-1)


def _has_sixteen_bits(image: Image.Image) -> bool:
    if image.format == "PNG":  # ``tile`` names the layout that the decoder unpacks: "RGB;16B"
        return any(";16" in str(tile.args) for tile in getattr(image, "tile", []))
    tags = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and 16 in tags.get(_BITS_PER_SAMPLE_TAG, ())


def _pixels(image: Image.Image, name: str) -> Array:
    """A PIL image of any mode -> [H, W] or [H, W, C], upright, in sRGB."""
    image.load()  # now, so that what follows is of a whole image
    orientation = _orientation(image)
    if image.mode.startswith("I;16"):
        array = np.asarray(image).astype(np.uint16)
    elif image.mode == "I":
        array = np.asarray(image)
        if array.min() < 0 or array.max() > 65535:
            raise ImageError(
                f"{name}: gray values span {array.min()} .. {array.max()}; expected 0 .. 65535"
            )
        array = array.astype(np.uint16)
    elif image.mode == "F":
        array = np.asarray(image)
    else:
        array = np.asarray(_to_srgb(image, name))
    return _upright(array, orientation)


def _to_srgb(image: Image.Image, name: str) -> Image.Image:
    """8-bit PIL image of any mode -> L, LA, RGB or RGBA in sRGB."""
    profile = image.info.get("icc_profile")
    has_alpha = image.has_transparency_data
    if image.mode == "La":  # premultiplied gray; Pillow converts it to LA only
        image = image.convert("LA")
    elif image.mode in ("P", "PA", "1", "RGBa", "YCbCr", "HSV"):
        image = image.convert("RGBA" if has_alpha else "RGB")
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return _profile_to_srgb(image, ImageCms.ImageCmsProfile(lab).tobytes())
    alpha = image.convert("RGBA").getchannel("A") if has_alpha else None
    colors = image.convert("L" if image.mode in ("L", "LA") else "RGB") if alpha else image
    if profile:
        try:
            colors = _profile_to_srgb(colors, profile)
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
            _warn_of_profile(name, error)
    if colors.mode not in ("L", "RGB"):
        colors = colors.convert("RGB")
    if alpha is not None:
        colors.putalpha(alpha)
    return colors


def _profile_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    if converted is None:  # by its type only: Pillow returns None for ``inPlace``
        raise ImageCms.PyCMSError("no image came back")
    return converted


def _warn_of_profile(name: str, error: Exception) -> None:
    warnings.warn(f"{name}: its ICC profile cannot be used ({error}); read as sRGB", stacklevel=2)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 .. 8; 1 where there is none, or EXIF data that cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # Pillow's parser raises exceptions of many types
        return 1


def _upright(array: Array, orientation: int) -> Array:
    """Undo an EXIF orientation (1 .. 8) of [H, W] or [H, W, C]."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array

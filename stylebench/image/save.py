"""Image saving: 8 or 16 bits, with the run's parameters inside, whole files or none."""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from stylebench.files.paths import expand
from stylebench.files.writing import atomic_path, check_writable
from stylebench.image.load import ImageError
from stylebench.image.metadata import (
    ARTIST_TAG,
    COPYRIGHT_TAG,
    INCH,
    NO_METADATA,
    RESOLUTION_UNIT_TAG,
    X_RESOLUTION_TAG,
    Y_RESOLUTION_TAG,
    Metadata,
)

FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"
}  # fmt: skip
_ENCODING: Mapping[str, Mapping[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 6},
    "TIFF": {"compression": "tiff_deflate"},
}
_DEEP_FORMATS = ("PNG", "TIFF")
_LONGEST_SIDES = {"JPEG": 65_500, "WEBP": 16_383}  # px, of libjpeg and libwebp
_PNG_KEY = "stylebench"
_DESCRIPTION_TAG, _SOFTWARE_TAG = 0x010E, 0x0131
_SOFTWARE = "stylebench"
_JPEG_EXIF_BYTES = 65_000  # a segment of JPEG has 16 bits for its length
_METERS_PER_INCH = 0.0254


def check_output(path: str | Path, bit_depth: int = 8, longest: int | None = None) -> Path:
    """Return ``path``, with ``~`` expanded, if an image can be written there.

    Called before a run, so that an hour's work is not lost for a misspelled folder.

    Args:
        path: of the image.
        bit_depth: 8 or 16.
        longest: the picture's longest side in pixels, where it is known.

    Raises:
        FileError: missing folder, a folder in the file's place, no permission; see
            ``files.writing.check_writable``.
        ImageError: unknown extension, or a bit depth or a size that the format does not have.
        ValueError: a bit depth that none has.
    """
    path = expand(path)
    if path.suffix.lower() not in FORMATS:
        raise ImageError(
            f"{path}: unknown image extension {path.suffix!r}; expected {', '.join(FORMATS)}"
        )
    kind = FORMATS[path.suffix.lower()]
    check_bit_depth(bit_depth)
    if bit_depth == 16 and kind not in _DEEP_FORMATS:
        raise ImageError(f"{path}: {path.suffix} has no 16 bits; use .png or .tiff")
    if longest is not None and longest > _LONGEST_SIDES.get(kind, longest):
        raise ImageError(
            f"{path}: a side of {longest} px, and {path.suffix} holds {_LONGEST_SIDES[kind]}; use "
            ".png or .tiff"
        )
    return check_writable(path)


def check_bit_depth(bit_depth: int) -> None:
    """Refuse a depth that no picture has: ValueError."""
    if bit_depth not in (8, 16):
        raise ValueError(f"bit_depth is {bit_depth!r}: expected 8 or 16")


def to_pil(rgb: Tensor, alpha: Tensor | None = None) -> Image.Image:
    """[3, H, W] in [0, 1] (clamped), and [1, H, W] alpha -> an 8-bit RGB or RGBA PIL image."""
    return Image.fromarray(_quantize(rgb, alpha, bit_depth=8))


def save_image(
    path: str | Path,
    rgb: Tensor,
    alpha: Tensor | None = None,
    parameters: Mapping[str, Any] | None = None,
    bit_depth: int = 8,
    metadata: Metadata = NO_METADATA,
) -> Path:
    """Write an image atomically; JPEG has no alpha and gets the colors only.

    Args:
        path: .png, .jpg, .jpeg, .webp, .tif or .tiff.
        rgb: [3, H, W], clamped to [0, 1].
        alpha: [1, H, W] in [0, 1], or None.
        parameters: the settings that made the image, stored as JSON in a PNG text chunk or the
            EXIF or TIFF description.
        bit_depth: 8, or 16 for PNG and TIFF.
        metadata: artist, copyright and resolution, stored where readers of the format look.

    Returns:
        The path, with ``~`` expanded.

    Raises:
        FileError: as ``check_output``.
        OSError: the disk is full, the folder was removed, and so on; ``path`` is as it was.
    """
    path = check_output(path, bit_depth, max(rgb.shape[-2:]))
    kind = FORMATS[path.suffix.lower()]
    text = json.dumps(parameters or {}, default=str)
    array = _quantize(rgb, None if kind == "JPEG" else alpha, bit_depth)
    with atomic_path(path) as partial:
        if bit_depth == 8:
            _save_pil(partial, kind, Image.fromarray(array), text, metadata)
        elif kind == "PNG":
            _save_deep_png(partial, array, text, metadata)
        else:
            _save_deep_tiff(partial, array, text, metadata)
    return path


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a PIL image as it is, atomically, in the format of the path's extension."""
    with atomic_path(path) as partial:
        picture.save(partial)


def read_parameters(path: str | Path) -> dict[str, Any] | None:
    """The parameters that ``save_image`` wrote into a file, or None where there are none."""
    with Image.open(path) as image:
        text = image.info.get(_PNG_KEY) or image.getexif().get(_DESCRIPTION_TAG)
    try:
        parameters = json.loads(text or "")
    except json.JSONDecodeError:
        return None
    return parameters if isinstance(parameters, dict) else None


def _quantize(rgb: Tensor, alpha: Tensor | None, bit_depth: int) -> np.ndarray[Any, Any]:
    """[3, H, W] and [1, H, W] -> [H, W, 3 | 4] uint8 or uint16, rounded to nearest."""
    channels = rgb if alpha is None else torch.cat([rgb, alpha.to(rgb)])
    values = channels.detach().double().clamp(0, 1).movedim(0, -1).cpu().numpy()
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    return np.ascontiguousarray(np.rint(values * np.iinfo(dtype).max).astype(dtype))


def _save_pil(path: Path, kind: str, image: Image.Image, text: str, metadata: Metadata) -> None:
    options = dict(_ENCODING.get(kind, {}))
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt(_PNG_KEY, text)
        info.add_text("Software", _SOFTWARE)
        for keyword, value in _credits(metadata).items():
            info.add_itxt(keyword, value)
        image.save(path, kind, pnginfo=info, **options)
        return
    exif = _exif(metadata, text)
    if kind == "JPEG" and len(exif.tobytes()) > _JPEG_EXIF_BYTES:
        warnings.warn(
            f"the parameters and credits of the run take {len(exif.tobytes())} bytes, and "
            f"{path.suffix} holds {_JPEG_EXIF_BYTES}: they are left out; .png holds them",
            stacklevel=2,
        )
        exif = _exif(NO_METADATA, "")
    image.save(path, kind, exif=exif, **options)


def _exif(metadata: Metadata, text: str) -> Image.Exif:
    exif = Image.Exif()
    exif[_DESCRIPTION_TAG] = text
    exif[_SOFTWARE_TAG] = _SOFTWARE
    for tag, value in ((ARTIST_TAG, metadata.artist), (COPYRIGHT_TAG, metadata.copyright)):
        if value:
            exif[tag] = value.encode()  # Pillow would make it ASCII
    if metadata.dpi:
        exif[X_RESOLUTION_TAG], exif[Y_RESOLUTION_TAG] = metadata.dpi
        exif[RESOLUTION_UNIT_TAG] = INCH
    return exif


def _credits(metadata: Metadata) -> dict[str, str]:
    """Artist and copyright by the keywords that PNG has for them."""
    texts = {"Author": metadata.artist, "Copyright": metadata.copyright}
    return {keyword: value for keyword, value in texts.items() if value}


def _save_deep_png(path: Path, array: np.ndarray[Any, Any], text: str, metadata: Metadata) -> None:
    import imagecodecs

    encoded = bytes(imagecodecs.png_encode(array))
    # The encoder writes no text. Chunks may come anywhere between IHDR, which with the signature
    # takes the first 33 bytes, and the pixels. The fields of iTXt: keyword, uncompressed, no
    # language, no translation, text.
    texts = {_PNG_KEY: text, **_credits(metadata)}
    chunks = [
        _png_chunk(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + value.encode())
        for keyword, value in texts.items()
    ]
    if metadata.dpi:
        x, y = (round(dots / _METERS_PER_INCH) for dots in metadata.dpi)
        chunks.append(_png_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))  # 1: a meter
    path.write_bytes(encoded[:33] + b"".join(chunks) + encoded[33:])


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _save_deep_tiff(path: Path, array: np.ndarray[Any, Any], text: str, metadata: Metadata) -> None:
    import tifffile

    texts = ((ARTIST_TAG, metadata.artist), (COPYRIGHT_TAG, metadata.copyright))
    tifffile.imwrite(
        path,
        array,
        photometric="rgb",
        extrasamples=["unassalpha"] if array.shape[2] == 4 else None,
        compression="zlib",
        description=text,
        software=_SOFTWARE,
        metadata=None,
        resolution=metadata.dpi,
        resolutionunit=INCH if metadata.dpi else None,
        extratags=[(tag, "s", 0, value.encode(), True) for tag, value in texts if value],
    )

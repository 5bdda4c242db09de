"""Image saving: 8 or 16 bits, with the run's parameters inside, whole files or none."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from stylebench.files.writing import atomic_path, check_writable
from stylebench.image.load import ImageError

FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"
}  # fmt: skip
_ENCODING: Mapping[str, Mapping[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 6},
    "TIFF": {"compression": "tiff_deflate"},
}
_DEEP_FORMATS = ("PNG", "TIFF")
_PNG_KEY = "stylebench"
_DESCRIPTION_TAG, _SOFTWARE_TAG = 0x010E, 0x0131
_SOFTWARE = "stylebench"


def check_output(path: str | Path, bit_depth: int = 8) -> Path:
    """Return ``path``, with ``~`` expanded, if an image can be written there.

    Called before a run, so that an hour's work is not lost for a misspelled folder.

    Raises:
        FileError: missing folder, a folder in the file's place, no permission.
        ImageError: unknown extension, or a bit depth that the format does not have.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in FORMATS:
        raise ImageError(
            f"{path}: unknown image extension {path.suffix!r}; expected {', '.join(FORMATS)}"
        )
    if bit_depth not in (8, 16):
        raise ImageError(f"a bit depth of {bit_depth}: expected 8 or 16")
    if bit_depth == 16 and FORMATS[path.suffix.lower()] not in _DEEP_FORMATS:
        raise ImageError(f"{path}: {path.suffix} has no 16 bits; use .png or .tiff")
    check_writable(path)
    return path


def to_pil(rgb: Tensor, alpha: Tensor | None = None) -> Image.Image:
    """[3, H, W] in [0, 1] (clamped), and [1, H, W] alpha -> an 8-bit RGB or RGBA PIL image."""
    return Image.fromarray(_quantize(rgb, alpha, bit_depth=8))


def save_image(
    path: str | Path,
    rgb: Tensor,
    alpha: Tensor | None = None,
    parameters: Mapping[str, Any] | None = None,
    bit_depth: int = 8,
) -> Path:
    """Write an image atomically; JPEG has no alpha and gets the colors only.

    Args:
        path: .png, .jpg, .jpeg, .webp, .tif or .tiff.
        rgb: [3, H, W], clamped to [0, 1].
        alpha: [1, H, W] in [0, 1], or None.
        parameters: the settings that made the image, stored as JSON in a PNG text chunk or the
            EXIF or TIFF description.
        bit_depth: 8, or 16 for PNG and TIFF.

    Returns:
        The path, with ``~`` expanded.

    Raises:
        FileError: as ``check_output``.
    """
    path = check_output(path, bit_depth)
    kind = FORMATS[path.suffix.lower()]
    text = json.dumps(parameters or {}, default=str)
    array = _quantize(rgb, None if kind == "JPEG" else alpha, bit_depth)
    with atomic_path(path) as partial:
        if bit_depth == 8:
            _save_pil(partial, kind, Image.fromarray(array), text)
        elif kind == "PNG":
            _save_deep_png(partial, array, text)
        else:
            _save_deep_tiff(partial, array, text)
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


def _save_pil(path: Path, kind: str, image: Image.Image, text: str) -> None:
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt(_PNG_KEY, text)
        info.add_text("Software", _SOFTWARE)
        image.save(path, kind, pnginfo=info)
        return
    exif = Image.Exif()
    exif[_DESCRIPTION_TAG] = text
    exif[_SOFTWARE_TAG] = _SOFTWARE
    image.save(path, kind, exif=exif, **_ENCODING[kind])


def _save_deep_png(path: Path, array: np.ndarray[Any, Any], text: str) -> None:
    import imagecodecs

    encoded = bytes(imagecodecs.png_encode(array))
    # The encoder writes no text. An iTXt chunk may come anywhere after IHDR, which with the
    # signature takes the first 33 bytes. Its fields: keyword, uncompressed, no language, no
    # translation, text.
    body = b"iTXt" + _PNG_KEY.encode() + b"\0\0\0\0\0" + text.encode()
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    path.write_bytes(encoded[:33] + chunk + encoded[33:])


def _save_deep_tiff(path: Path, array: np.ndarray[Any, Any], text: str) -> None:
    import tifffile

    tifffile.imwrite(
        path,
        array,
        photometric="rgb",
        extrasamples=["unassalpha"] if array.shape[2] == 4 else None,
        compression="zlib",
        description=text,
        software=_SOFTWARE,
        metadata=None,
    )

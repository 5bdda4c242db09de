"""Image loading: files, PIL, numpy and tensors become upright sRGB floats, and alpha apart."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from stylebench.files.paths import FileError
from stylebench.image.metadata import NO_METADATA, Metadata, read_metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

#: The types that ``load_image`` accepts.
ImageSource: TypeAlias = "str | Path | Image.Image | np.ndarray[Any, Any] | Tensor"

_ORIENTATION_TAG, _BITS_PER_SAMPLE_TAG = 0x0112, 0x0102
_SMALLEST_SIDE = 2  # px; a single row or column has neither texture nor shape


class ImageError(FileError):
    """An image cannot be read, used or written; the message names it and the reason."""


@dataclass(frozen=True)
class Picture:
    """A loaded image.

    Attributes:
        name: its file or kind, for messages.
        rgb: [3, H, W] fp32 sRGB in [0, 1]; transparent parts are composited over white.
        alpha: [1, H, W] fp32 in [0, 1], or None where the image is opaque.
        metadata: its artist, copyright and resolution.
    """

    name: str
    rgb: Tensor
    alpha: Tensor | None = None
    metadata: Metadata = NO_METADATA

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.rgb.shape[-2:]
        return height, width


def load_image(source: ImageSource) -> Picture:
    """Read an image of any supported kind.

    Args:
        source: a path; a PIL image of any mode; a numpy array [H, W], [H, W, 1|2|3|4] of uint8,
            uint16 or float in [0, 1]; or a tensor [1|2|3|4, H, W] (a leading batch of 1 is allowed)
            of the same dtypes. Two channels are gray and alpha, four are RGB and alpha.

    Files and PIL images have their EXIF orientation applied and an embedded ICC profile converted
    to sRGB. 16-bit files keep their 16 bits. Of an animation the first frame is used.

    Raises:
        ImageError: missing, empty, corrupt or oversized file, a side of one pixel, or an array of
            another shape, dtype or range.
    """
    if isinstance(source, str | Path):
        name, array = str(source), _read_file(Path(source).expanduser())
    elif isinstance(source, Image.Image):
        name, array = "PIL image", _read_pil(source, "PIL image")
    elif isinstance(source, Tensor):
        name, array = "tensor", _tensor_to_array(source)
    elif isinstance(source, np.ndarray):
        name, array = "array", source
    else:
        raise ImageError(
            f"{type(source).__name__} is no image: expected a path, PIL image, array or tensor"
        )
    return replace(_picture(name, array), metadata=read_metadata(source))


def fit(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(height, width) with the given longest side in pixels and the aspect of ``size``."""
    height, width = size
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample [C, H, W] in [0, 1] to (height, width): bicubic, antialiased, clamped."""
    if image.shape[-2:] == size:
        return image
    resampled = F.interpolate(
        image[None], size=size, mode="bicubic", antialias=True, align_corners=False
    )
    return resampled[0].clamp(0, 1)


def _picture(name: str, array: Array) -> Picture:
    """[H, W] or [H, W, C] of uint8, uint16 or float -> Picture."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        raise ImageError(
            f"{name}: shape {array.shape} is not an image; expected height x width x 1 (gray), "
            "2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha), or for tensors channels x height x width"
        )
    height, width, channels = array.shape
    if min(height, width) < _SMALLEST_SIDE:
        raise ImageError(
            f"{name}: {width} x {height} px is too small; every side needs {_SMALLEST_SIDE} px"
        )
    values = torch.from_numpy(np.ascontiguousarray(_unit_range(name, array).transpose(2, 0, 1)))
    colors, alpha = (values[:-1], values[-1:]) if channels in (2, 4) else (values, None)
    rgb = colors.expand(3, height, width)
    if alpha is None or bool((alpha == 1).all()):
        return Picture(name, rgb.contiguous())
    return Picture(name, rgb * alpha + (1 - alpha), alpha)


def _unit_range(name: str, array: Array) -> Array:
    """Any supported dtype -> fp32 in [0, 1]."""
    if array.dtype == bool:
        return array.astype(np.float32)
    if array.dtype in (np.uint8, np.uint16):
        return (array / np.float32(np.iinfo(array.dtype).max)).astype(np.float32)
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # written so that NaN fails too
            raise ImageError(f"{name}: float values span {low:g} .. {high:g}; expected 0 .. 1")
        return array.astype(np.float32)
    raise ImageError(f"{name}: dtype {array.dtype}; expected uint8, uint16 or float in [0, 1]")


def _tensor_to_array(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.movedim(0, -1).numpy() if tensor.ndim == 3 else tensor.numpy()


def _read_file(path: Path) -> Array:
    if not path.exists():
        raise ImageError(f"{path}: no such file")
    if path.is_dir():
        raise ImageError(f"{path}: is a folder, expected an image file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise ImageError(f"{path}: is empty")
    try:
        with warnings.catch_warnings():
            # Pillow warns above its limit, as for large photographs, and raises above twice that.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                deep = _read_deep(image, data)
                return _read_pil(image, str(path)) if deep is None else deep
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{path}: too many pixels to be a picture ({error}); raise PIL.Image.MAX_IMAGE_PIXELS "
            "if it is one"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not an image, or of a format that Pillow cannot read") from error
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more
        raise ImageError(f"{path}: corrupt or incomplete ({error})") from error


def _read_deep(image: Image.Image, data: bytes) -> Array | None:
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
        import imagecodecs

        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        colors = imagecodecs.cms_transform(
            np.ascontiguousarray(array[..., :3]), profile, srgb, colorspace="rgb",
            outcolorspace="rgb", outdtype="uint16",
        )  # fmt: skip
        array = np.concatenate([colors, array[..., 3:]], axis=-1)
    return _upright(array, image.getexif().get(_ORIENTATION_TAG, 1))


def _has_sixteen_bits(image: Image.Image) -> bool:
    if image.format == "PNG":  # ``tile`` names the layout that the decoder unpacks: "RGB;16B"
        return any(";16" in str(tile.args) for tile in getattr(image, "tile", []))
    tags = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and 16 in tags.get(_BITS_PER_SAMPLE_TAG, ())


def _read_pil(image: Image.Image, name: str) -> Array:
    """A PIL image of any mode -> [H, W] or [H, W, C], upright, in sRGB."""
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
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
        except (ImageCms.PyCMSError, OSError) as error:
            warnings.warn(
                f"{name}: its ICC profile cannot be used ({error}); read as sRGB", stacklevel=2
            )
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


def _upright(array: Array, orientation: int) -> Array:
    """Undo an EXIF orientation (1 .. 8) of [H, W] or [H, W, C]."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array

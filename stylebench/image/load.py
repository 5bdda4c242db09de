"""Image loading: files, PIL, numpy and tensors become upright sRGB floats, and alpha apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stylebench.image.decode import ImageError, decode_bytes, decode_file, decode_pil
from stylebench.image.metadata import NO_METADATA, Metadata, read_metadata

__all__ = ["ImageError", "ImageSource", "Picture", "fit", "load_bytes", "load_image", "resize"]

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

#: The types that ``load_image`` accepts.
ImageSource: TypeAlias = "str | Path | Image.Image | np.ndarray[Any, Any] | Tensor | Picture"

_TENSOR_DTYPES = (
    torch.bool, torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32,
    torch.float64,
)  # fmt: skip
_SMALLEST_SIDE = 2  # px; a single row or column has neither texture nor shape


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
            of the same dtypes. Two channels are gray and alpha, four are RGB and alpha. A
            ``Picture`` is returned as it is.

    Files and PIL images have their EXIF orientation applied and an embedded ICC profile converted
    to sRGB. 16-bit files keep their 16 bits. Of an animation the first frame is used, and of
    a file of several pictures the first one; a warning tells how many there are.

    Raises:
        ImageError: a missing, empty, corrupt or oversized file, one of a format that is not read
            (``decode.FORMATS``), a side of one pixel, or an array or tensor of another shape,
            dtype, layout or range.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, str | Path):
        name, array = str(source), decode_file(source)
    elif isinstance(source, Image.Image):
        name, array = "PIL image", decode_pil(source)
    elif isinstance(source, Tensor):
        name, array = "tensor", _tensor_to_array(source)
    elif isinstance(source, np.ndarray):
        name, array = "array", _unmasked(source)
    elif isinstance(source, list | tuple):
        raise ImageError(
            f"a {type(source).__name__} of {len(source)} is no image: expected one path, PIL "
            "image, array or tensor; only the style may be several"
        )
    else:
        raise ImageError(
            f"{type(source).__name__} is no image: expected a path, PIL image, array or tensor"
        )
    return replace(_picture(name, array), metadata=read_metadata(source))


def load_bytes(data: bytes, name: str) -> Picture:
    """Read an image file's bytes as ``load_image`` reads the file; messages call it ``name``."""
    return replace(_picture(name, decode_bytes(data, name)), metadata=read_metadata(data))


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
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
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


def _unmasked(array: Array) -> Array:
    """The array, or its values where numpy's mask hides none of them."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise ImageError(
            "array: has masked values; expected all of them: fill them (array.filled(0)), or give "
            "the mask as a channel of alpha"
        )
    return np.asarray(array)


def _tensor_to_array(tensor: Tensor) -> Array:
    kind = _unusable_kind(tensor)
    if kind is not None:
        raise ImageError(
            f"tensor: is {kind}; expected a dense tensor of uint8, uint16 or float in [0, 1]"
        )
    tensor = tensor.detach().cpu()
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    tensor = tensor.resolve_neg()
    return tensor.movedim(0, -1).numpy() if tensor.ndim == 3 else tensor.numpy()


def _unusable_kind(tensor: Tensor) -> str | None:
    """The property of a tensor without values that numpy could have, for a message."""
    if tensor.is_nested:
        return "nested"
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:  # masked, fake and so on
        return f"a {type(tensor).__name__}, a kind of its own"
    if tensor.is_meta:
        return "on the device meta, without values"
    if tensor.layout is not torch.strided:
        return f"of the layout {str(tensor.layout).removeprefix('torch.')}"
    if tensor.numel() and not tensor.untyped_storage().nbytes():
        return "without values, whose memory was freed"
    if tensor.is_quantized or tensor.dtype not in _TENSOR_DTYPES:
        return f"of the dtype {str(tensor.dtype).removeprefix('torch.')}"
    return None

"""Pictures on their way to a page or a film: opaque, of a bounded size, small in bytes."""

from __future__ import annotations

import base64
import io

from PIL import Image


def opaque(picture: Image.Image) -> Image.Image:
    """``picture`` as RGB; what is transparent lies on white."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture).convert("RGB")


def bounded(picture: Image.Image, longest: int) -> Image.Image:
    """``picture`` as RGB, no side longer than ``longest`` px; a smaller one stays as it is."""
    picture = opaque(picture)
    scale = longest / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def as_jpeg(picture: Image.Image, quality: int = 85) -> bytes:
    """An RGB picture as a JPEG file, with all of its color."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def data_url(jpeg: bytes) -> str:
    """A JPEG file as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"

"""A sheet: panels in rows and columns, with their labels, in one picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_GAP = 6  # px between panels
_SMALLEST_TEXT, _PANELS_A_TEXT = 11, 14  # px, and the part of a panel's width that letters are


def draw_sheet(
    rows: Sequence[str], columns: Sequence[str], pictures: Sequence[Image.Image]
) -> Image.Image:
    """An RGB picture of ``pictures``, with labels over the columns and before the rows.

    Args:
        rows: labels; where all are empty there is no room for them.
        columns: likewise.
        pictures: row by row, all of one size; transparent ones over white.
    """
    width, height = pictures[0].size
    font = _font(width, columns)
    lefts = _steps(_room(font, rows), width, len(columns))
    tops = _steps(_line(font) if any(columns) else 0, height, len(rows))
    sheet = Image.new("RGB", (lefts[-1] + width, tops[-1] + height), "white")
    draw = ImageDraw.Draw(sheet)
    for left, label in zip(lefts, columns, strict=True):
        draw.text((left + width / 2, tops[0] - _GAP / 2), label, "black", font, anchor="md")
    for top, label in zip(tops, rows, strict=True):
        draw.text((lefts[0] - _GAP, top + height / 2), label, "black", font, anchor="rm")
    places = ((left, top) for top in tops for left in lefts)
    for place, picture in zip(places, pictures, strict=True):
        sheet.paste(picture, place, picture if picture.mode == "RGBA" else None)
    return sheet


def _font(width: int, columns: Sequence[str]) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, in a size at which every column's label fits over its panels."""
    size = max(_SMALLEST_TEXT, width // _PANELS_A_TEXT)
    font = ImageFont.load_default(size)
    widest = max(font.getlength(label) for label in columns)
    if widest <= width:
        return font
    return ImageFont.load_default(max(1, int(size * width / widest)))


def _room(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, rows: Sequence[str]) -> int:
    """The width of the rows' labels, with a gap on either side."""
    widest = max(font.getlength(label) for label in rows)
    return round(widest) + 2 * _GAP if widest else 0


def _line(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    """The height of a line of text, with its gaps."""
    _, top, _, bottom = font.getbbox("alpha/beta")
    return round(bottom - top) + 2 * _GAP


def _steps(first: int, side: int, count: int) -> list[int]:
    return [first + number * (side + _GAP) for number in range(count)]

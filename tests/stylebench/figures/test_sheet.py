"""Sheets: where the panels and the labels are."""

import numpy as np
import pytest
from PIL import Image

from stylebench.figures.sheet import draw_sheet

COLORS = ["red", "lime", "blue", "yellow", "cyan", "magenta"]


@pytest.fixture
def pictures():
    return [Image.new("RGB", (60, 40), color) for color in COLORS]


def box(sheet, color):
    """The (left, top, width, height) of what has a color."""
    wanted = np.asarray(Image.new("RGB", (1, 1), color))[0, 0]
    rows, columns = np.nonzero((np.asarray(sheet) == wanted).all(axis=-1))
    return (
        columns.min(), rows.min(), columns.max() - columns.min() + 1, rows.max() - rows.min() + 1,
    )  # fmt: skip


def dark(sheet, left, top, right, bottom):
    """Pixels of text in a part of a sheet."""
    return int((np.asarray(sheet.convert("L"))[top:bottom, left:right] < 100).sum())


def test_panels_are_in_rows_and_columns_at_their_own_size(pictures):
    sheet = draw_sheet(["first", "second"], ["a", "b", "c"], pictures)
    boxes = [box(sheet, color) for color in COLORS]
    assert {(width, height) for *_, width, height in boxes} == {(60, 40)}
    lefts, tops = {left for left, *_ in boxes}, {top for _, top, *_ in boxes}
    assert (len(lefts), len(tops)) == (3, 2)
    assert [(left, top) for left, top, *_ in boxes] == [
        (left, top) for top in sorted(tops) for left in sorted(lefts)
    ]
    assert sheet.size == (max(lefts) + 60, max(tops) + 40)


def test_every_label_is_drawn_beside_its_panels_and_none_on_them(pictures):
    sheet = draw_sheet(["first", "second"], ["alpha/beta = 1e-5", "bbb", "ccc"], pictures)
    for color in COLORS[:3]:
        left, top, width, _ = box(sheet, color)
        assert dark(sheet, left, 0, left + width, top) > 5
    for color in (COLORS[0], COLORS[3]):
        left, top, _, height = box(sheet, color)
        assert dark(sheet, 0, top, left, top + height) > 5
    for picture in pictures:
        assert sheet.getcolors(10_000).count((60 * 40, picture.getpixel((0, 0)))) == 1


def test_without_labels_there_is_no_room_for_them(pictures):
    sheet = draw_sheet([""], ["", ""], pictures[:2])
    assert box(sheet, "red")[:2] == (0, 0)


def test_transparent_panels_are_over_white():
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert draw_sheet([""], [""], [clear]).getcolors() == [(400, (255, 255, 255))]

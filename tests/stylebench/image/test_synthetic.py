"""The synthetic pictures: the same every time, with contrast and color; and montages."""

import numpy as np
import pytest

from stylebench.image.montage import side_by_side
from stylebench.image.synthetic import landscape, painting


@pytest.fixture(scope="module")
def pictures():
    return {draw: draw(80, 60) for draw in (landscape, painting)}


@pytest.mark.parametrize("draw", [landscape, painting])
def test_pictures_are_the_same_every_time(pictures, draw):
    first, again = np.asarray(pictures[draw]), np.asarray(draw(80, 60))
    assert first.shape == (60, 80, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, np.asarray(draw(80, 60, seed=99)))


@pytest.mark.parametrize("draw", [landscape, painting])
def test_pictures_have_contrast_and_color(pictures, draw):
    values = np.asarray(pictures[draw]).astype(float)
    assert values.mean(axis=2).std() > 30
    assert (values.max(axis=2) - values.min(axis=2)).mean() > 30


def test_a_montage_shows_pictures_side_by_side(pictures):
    square = pictures[painting].crop((0, 0, 80, 80))
    canvas = side_by_side([pictures[landscape], square], height=60)
    assert canvas.size == (80 + 8 + 60, 60)
    assert canvas.getpixel((84, 30)) == (255, 255, 255)

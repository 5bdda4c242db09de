"""Steps of an invented run, whose loss falls as a power of the iteration."""

import numpy as np
import pytest
from PIL import Image

from stylebench.watch.step import Step


def shade(value, size=(48, 32)):
    """A picture of one grey."""
    return Image.new("RGB", size, (value, value, value))


def picture_at(share, size):
    """From black to white with the share that is done, and a gradient that stays."""
    values = np.full((size[1], size[0], 3), 200 * share)
    values += np.linspace(0, 50, size[0])[None, :, None]
    return Image.fromarray(values.astype(np.uint8))


@pytest.fixture
def steps():
    """Make steps: ``steps(count)``; from ``second`` on they are of a second, larger phase."""

    def make(count, size=(48, 32), second=None, loss=lambda iteration: 1e6 * iteration**-1.5):
        for iteration in range(1, count + 1):
            share = iteration / count
            later = second is not None and iteration >= second
            now = (2 * size[0], 2 * size[1]) if later else size
            value = 50 * loss(iteration - second + 1) if later else loss(iteration)
            terms = {"content relu4_2": 0.25 * value, "style relu1_1": 0.75 * value}
            yield Step(
                iteration, count, value, terms, 0.1 * iteration, share, 0.1 * (count - iteration),
                lambda share=share, now=now: picture_at(share, now), int(later),
            )  # fmt: skip

    return make


@pytest.fixture
def no_picture():
    """Forbid a step's picture."""

    def forbid():
        pytest.fail("a picture was made, and nobody sees it")

    return forbid

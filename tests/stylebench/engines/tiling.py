"""Tiles small enough for the images of tests."""

from functools import partial

import pytest

from stylebench.engines.tiled import TILED
from stylebench.model import tiles
from stylebench.model.tiles import Tiling


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow tiles of four positions."""
    monkeypatch.setattr(tiles, "_FEWEST", 4)


def tiled(engine, tiling=None):
    """The class of ``engine`` for tiles, of 8 x 12 positions by default, as ``build`` calls one."""
    return partial(TILED[engine.name], tiling=tiling or Tiling(8, 12))

"""A fixture that cuts feature maps into tiles small enough for small images."""

from collections.abc import Callable

import pytest

from stylebench.engines.fused import tiling


@pytest.fixture
def set_tile_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Call it with the number of rows that tiles shall have, however wide the map is."""

    def set_rows(rows: int) -> None:
        monkeypatch.setattr(tiling, "TILE_BYTES", 0)
        monkeypatch.setattr(tiling, "MIN_ROWS", rows)

    return set_rows

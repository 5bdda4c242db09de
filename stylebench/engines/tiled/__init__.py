"""Tiled engines: loss and gradient of an image whose feature maps do not fit in memory."""

from stylebench.engines.tiled.by_autograd import TiledCompiled, TiledEager, TiledReference
from stylebench.engines.tiled.engine import Tiled
from stylebench.engines.tiled.fused import TiledFused

#: Engine name -> its class for tiles.
TILED: dict[str, type[Tiled]] = {
    "reference": TiledReference,
    "eager": TiledEager,
    "compiled": TiledCompiled,
    "fused": TiledFused,
}

__all__ = ["TILED", "Tiled"]

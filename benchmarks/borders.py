"""The largest difference that tiles make along their borders, and elsewhere.

python benchmarks/borders.py CONTENT STYLE --size 4096 --tile 1024 --against rows:640 -o out.png

Two runs that differ in tiles alone. Where the whole picture fits, ``--against none`` is the oracle.
"""

from argparse import ArgumentParser
from pathlib import Path

import torch
from torch import Tensor

from stylebench import Result, Settings, style_transfer
from stylebench.model.tiles import Tiling, blocks
from stylebench.model.vgg import LAYERS

NEAR = 8  # px to either side of a border


def border_mask(height: int, width: int, tile: int | str) -> Tensor:
    """Whether a pixel is near a border between tiles of any block [H, W], bool."""
    near = torch.zeros(height, width, dtype=torch.bool)
    tiling = Tiling.of(tile)
    for depth, names in enumerate(blocks(LAYERS)):
        for part in tiling.tiles(names, height >> depth, width >> depth) if tiling else ():
            top, left = part.rows.start << depth, part.columns.start << depth
            if top:
                near[max(0, top - NEAR) : top + NEAR] = True
            if left:
                near[:, max(0, left - NEAR) : left + NEAR] = True
    return near


def largest(one: Tensor, other: Tensor, near: Tensor) -> tuple[float, float]:
    """The largest difference of two pictures [3, H, W], near borders and elsewhere."""
    difference = (one - other).abs().amax(0)
    return float(difference[near].max()), float(difference[~near].max())


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("content", type=Path)
    parser.add_argument("style", type=Path)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--tile", type=tile_of, default="rows:256")
    parser.add_argument("--against", type=tile_of, default="none")
    parser.add_argument("-n", "--iterations", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()

    def run(tile: int | str) -> Result:
        settings = Settings(
            size=arguments.size, iterations=arguments.iterations, tile=tile, scales=None,
            history=10, engine="fused", precision="fp32",
        )  # fmt: skip
        return style_transfer(arguments.content, arguments.style, settings, reuse=False)

    tiled = run(arguments.tile)
    if arguments.output:
        tiled.save(arguments.output)
    rgb = tiled.rgb
    near = border_mask(*rgb.shape[-2:], arguments.tile)
    if near.all() or not near.any():
        parser.error(f"--tile {arguments.tile} leaves no borders, or nothing else, to look at")
    along, elsewhere = largest(rgb, run(arguments.against).rgb, near)
    print(f"of 255: {255 * along:.3g} along borders, {255 * elsewhere:.3g} elsewhere")


def tile_of(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


if __name__ == "__main__":
    main()

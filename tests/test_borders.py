"""The script that looks for seams tells a planted one from what is elsewhere."""

import runpy
from pathlib import Path

import torch

BORDERS = Path(__file__).parents[1] / "benchmarks" / "borders.py"


def borders():
    return runpy.run_path(str(BORDERS))


def test_borders_are_those_between_tiles_and_not_of_the_picture():
    near = borders()["border_mask"](256, 192, "rows:128")
    rows = near.nonzero()[:, 0].unique().tolist()
    assert rows == list(range(120, 136))
    assert near[rows].all()
    assert not borders()["border_mask"](256, 192, "none").any()


def test_a_seam_is_told_from_a_difference_elsewhere():
    script = borders()
    near = script["border_mask"](256, 192, "rows:128")
    one = torch.zeros(3, 256, 192)
    seam, other = one.clone(), one.clone()
    seam[1, 128, 50] = 0.5
    other[2, 20, 50] = 0.25
    assert script["largest"](seam, one, near) == (0.5, 0.0)
    assert script["largest"](other, one, near) == (0.0, 0.25)

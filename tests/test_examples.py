"""The algorithm on one screen gives the reference engine's trajectory, bit for bit."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from stylebench import Settings, style_transfer

GATYS = Path(__file__).parents[1] / "examples" / "gatys.py"


def test_gatys_on_one_screen_is_the_reference_engine(photo, painting, weights):
    rgb, losses = runpy.run_path(str(GATYS))["gatys"](
        photo, painting, weights, size=48, iterations=12
    )
    settings = Settings(
        engine="reference", weights=weights, size=48, iterations=12, history=100, device="cpu"
    )
    reference = style_transfer(photo, painting, settings)
    assert losses == list(reference.losses["loss"])
    assert torch.equal(rgb, reference.rgb)


@pytest.mark.slow
def test_gatys_on_one_screen_runs_from_the_shell(photo, painting, tmp_path):
    photo.save(tmp_path / "photo.png")
    painting.save(tmp_path / "painting.png")
    files = [tmp_path / name for name in ("photo.png", "painting.png", "out.png")]
    source = GATYS.read_text("utf-8").replace("size=512, iterations=500", "size=32, iterations=2")
    ran = subprocess.run(
        [sys.executable, "-c", source, *map(str, files), "random"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("loss ")
    with Image.open(files[2]) as picture:
        assert picture.size == (32, 21)

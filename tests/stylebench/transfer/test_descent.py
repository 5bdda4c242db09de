"""Every preset descends from every start, with the trained network: no leap, and not stuck."""

import warnings

import pytest
from PIL import Image

from stylebench.image.synthetic import landscape, painting
from stylebench.model.presets import PRESETS
from stylebench.transfer.api import style_transfer
from stylebench.transfer.settings import Settings

STARTS = ("content", "noise", "flat")
ALL = [(name, start) for name in PRESETS for start in STARTS if name != "deep-textures"]
ALL += [("deep-textures", "content"), ("deep-textures", "flat")]
LEAPS = pytest.mark.xfail(reason="the loss rises 161-fold before it falls", strict=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "start"), [*ALL, pytest.param("deep-textures", "noise", marks=LEAPS)]
)
def test_the_loss_falls_to_a_fifth_within_60_iterations_or_the_run_says_so(preset, start):
    canvas = Image.new("RGB", (64, 48), (128, 128, 128)) if start == "flat" else landscape(64, 48)
    settings = Settings(
        preset=preset, size=64, iterations=60, weights="original", precision="fp32",
        init="noise" if start == "noise" else "content", device="cpu",
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = style_transfer(canvas, painting(64, 64), settings)
    losses = [row["loss"] for row in result.history]
    # The content weight of `paper` leaves nothing to do, and `deep-textures` begins from noise.
    if preset in ("paper", "deep-textures") and start != "noise":
        assert result.stuck
        assert caught
        return
    assert not result.stuck
    assert min(losses) < 0.2 * losses[0]
    assert max(losses) < 100 * losses[0]

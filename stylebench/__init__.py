"""Gatys' neural style transfer: a paper-exact reference, fast verified engines, benchmarks.

from stylebench import stylize

image = stylize("photo.jpg", "painting.jpg")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from stylebench.version import __version__

if TYPE_CHECKING:
    from stylebench.checkpoint import CheckpointError, Keep
    from stylebench.images import ImageError
    from stylebench.loop import Step
    from stylebench.objective import PRESETS, Preset
    from stylebench.result import Diverged, Interrupted, Result
    from stylebench.settings import Settings
    from stylebench.transfer import style_transfer, stylize
    from stylebench.weights import WeightsError, load_weights

# Names are fetched when first used, so that the command line answers without loading torch.
_HOMES = {
    "PRESETS": "objective",
    "CheckpointError": "checkpoint",
    "Diverged": "result",
    "ImageError": "images",
    "Interrupted": "result",
    "Keep": "checkpoint",
    "Preset": "objective",
    "Result": "result",
    "Settings": "settings",
    "Step": "loop",
    "WeightsError": "weights",
    "load_weights": "weights",
    "style_transfer": "transfer",
    "stylize": "transfer",
}

__all__ = [
    "PRESETS",
    "CheckpointError",
    "Diverged",
    "ImageError",
    "Interrupted",
    "Keep",
    "Preset",
    "Result",
    "Settings",
    "Step",
    "WeightsError",
    "__version__",
    "load_weights",
    "style_transfer",
    "stylize",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'stylebench' has no attribute {name!r}")
    value = getattr(import_module(f"stylebench.{_HOMES[name]}"), name)
    globals()[name] = value
    return value

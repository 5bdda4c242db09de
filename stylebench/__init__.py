"""Gatys' neural style transfer: a paper-exact reference, fast verified engines, benchmarks.

from stylebench import stylize

image = stylize("photo.jpg", "painting.jpg")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stylebench.figures.make import make_figure
    from stylebench.files.paths import FileError
    from stylebench.image.load import ImageError
    from stylebench.model.presets import PRESETS, Preset
    from stylebench.model.weights import WeightsError, load_weights
    from stylebench.transfer.api import style_transfer, stylize
    from stylebench.transfer.batch import stylize_batch
    from stylebench.transfer.checkpoint import CheckpointConfig, CheckpointError, Keep
    from stylebench.transfer.result import Diverged, Interrupted, Result, result_of
    from stylebench.transfer.reuse import clear_cache
    from stylebench.transfer.settings import Settings
    from stylebench.transfer.texture import texture
    from stylebench.version import __version__
    from stylebench.watch.step import Step

# Names are fetched when first used, so that the command line answers without loading torch.
_HOMES = {
    "PRESETS": "model.presets",
    "CheckpointConfig": "transfer.checkpoint",
    "CheckpointError": "transfer.checkpoint",
    "Diverged": "transfer.result",
    "FileError": "files.paths",
    "ImageError": "image.load",
    "Interrupted": "transfer.result",
    "Keep": "transfer.checkpoint",
    "Preset": "model.presets",
    "Result": "transfer.result",
    "Settings": "transfer.settings",
    "Step": "watch.step",
    "WeightsError": "model.weights",
    "__version__": "version",
    "clear_cache": "transfer.reuse",
    "load_weights": "model.weights",
    "make_figure": "figures.make",
    "result_of": "transfer.result",
    "style_transfer": "transfer.api",
    "stylize": "transfer.api",
    "stylize_batch": "transfer.batch",
    "texture": "transfer.texture",
}

__all__ = [
    "PRESETS",
    "CheckpointConfig",
    "CheckpointError",
    "Diverged",
    "FileError",
    "ImageError",
    "Interrupted",
    "Keep",
    "Preset",
    "Result",
    "Settings",
    "Step",
    "WeightsError",
    "__version__",
    "clear_cache",
    "load_weights",
    "make_figure",
    "result_of",
    "style_transfer",
    "stylize",
    "stylize_batch",
    "texture",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'stylebench' has no attribute {name!r}")
    value = getattr(import_module(f"stylebench.{_HOMES[name]}"), name)
    globals()[name] = value
    return value

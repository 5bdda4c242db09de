"""Finished panels: a picture each, in a folder where a later run finds them again.

A panel's name is the hash of all that it is made of, so panels of other runs are never taken, and
never replaced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from stylebench.image.save import read_parameters, save_image
from stylebench.transfer.device import choose_device, choose_engine, choose_precision
from stylebench.transfer.hashing import hash_of
from stylebench.transfer.result import Result
from stylebench.transfer.settings import Settings
from stylebench.version import __version__

_KEY = "panel"  # of the parameters in a panel's file
_DIGITS = 16  # of its hash, in the file's name


@dataclass(frozen=True)
class Finished:
    """A panel that was made.

    Attributes:
        image: its picture.
        record: identity, loss, terms, iterations, seconds and parameters, ready for JSON.
    """

    image: Image.Image
    record: Mapping[str, Any]


def identity_of(settings: Settings, inputs: Mapping[str, str]) -> str:
    """The hash of all that a panel is made of.

    Args:
        settings: of its run.
        inputs: name -> hash of the pictures and the weights.
    """
    device = choose_device(settings.device)
    engine = choose_engine(settings, device)
    resolved = {
        "weights": None,  # which ``inputs`` tells better, and a picture to begin with as well
        "init": None if settings.starts_from_file else settings.init,
        "device": device.type,
        "engine": engine,
        "precision": choose_precision(settings, engine, device),
        "stylebench": __version__,
    }
    text = json.dumps([{**vars(settings), **resolved}, dict(inputs)], sort_keys=True, default=str)
    return hash_of({}, text)


class PanelStore:
    """The finished panels of a folder.

    Args:
        folder: made where it is missing, once there is a panel; None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self, identity: str) -> Finished | None:
        """The panel of that identity, if it is there and whole."""
        path = self._path(identity)
        if path is None or not path.is_file():
            return None
        try:
            record = (read_parameters(path) or {})[_KEY]
            if record["identity"] != identity:
                return None
            with Image.open(path) as image:
                return Finished(image.copy(), record)
        except (OSError, SyntaxError, ValueError, KeyError, TypeError):
            return None  # of someone else's making: it is made anew

    def save(self, identity: str, result: Result) -> Finished:
        """Keep a result, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        record = _record(identity, result)
        path = self._path(identity)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            parameters = {**result.parameters, _KEY: record}
            save_image(path, result.rgb, result.alpha, parameters, metadata=result.metadata)
        return Finished(result.image, record)

    def _path(self, identity: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{identity[:_DIGITS]}.png"


def _record(identity: str, result: Result) -> dict[str, Any]:
    made = result.parameters
    row = result.history[made["best_iteration"] - 1]
    record = {
        "identity": identity,
        "loss": made["loss"],
        "terms": {name: row[name] for name in row if name not in ("iteration", "seconds", "loss")},
        "iterations": made["iterations_done"],
        "best_iteration": made["best_iteration"],
        "seconds": made["seconds"],
        "parameters": dict(made),
    }
    return json.loads(json.dumps(record, default=str))  # as it is read again

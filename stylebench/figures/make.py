"""A figure, panel by panel, to its sheet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image

from stylebench.figures import FIGURES
from stylebench.figures.panels import Panel, panels_of
from stylebench.figures.sheet import draw_sheet
from stylebench.figures.store import Finished, PanelStore, identity_of
from stylebench.files.paths import FileError, exists
from stylebench.files.reading import read_json
from stylebench.files.writing import atomic_path, check_folder, check_writable
from stylebench.image.load import ImageSource, resize
from stylebench.image.metadata import NO_METADATA, Metadata
from stylebench.image.save import check_output, save_image, to_pil
from stylebench.transfer.api import style_transfer
from stylebench.transfer.input_hashes import input_hashes
from stylebench.transfer.inputs import Inputs, Styles
from stylebench.transfer.observers import Callback
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.settings import Settings
from stylebench.transfer.values import check_callable
from stylebench.version import __version__

_LARGEST_RECORD = 2**26  # bytes


@dataclass(frozen=True)
class PanelDone:
    """A panel that is ready.

    Attributes:
        number: from 1.
        total: panels of the figure that are runs.
        name: its labels.
        loss: of its picture.
        seconds: that it took; 0 where it was made before.
    """

    number: int
    total: int
    name: str
    loss: float
    seconds: float


@dataclass(frozen=True)
class Sheet:
    """A figure.

    Attributes:
        image: all panels with their labels, RGB.
        record: the panels' settings, losses and versions, ready for JSON.
        metadata: the content's artist and copyright, which the saved sheet keeps.
    """

    image: Image.Image
    record: Mapping[str, Any]
    metadata: Metadata = NO_METADATA

    def save(self, path: str | Path) -> Path:
        """Write the sheet, and its record beside it as ``.json``; return the sheet's path.

        Raises:
            FileError: one of the two cannot be written.
        """
        path = check_sheet(path)
        pixels = torch.from_numpy(np.array(self.image)).movedim(-1, 0) / 255
        save_image(path, pixels, parameters=self.record, metadata=self.metadata)
        with atomic_path(path.with_suffix(".json")) as partial:
            partial.write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")
        return path


def make_figure(
    name: str,
    content: ImageSource,
    style: Styles,
    settings: Settings | None = None,
    *,
    ratios: Sequence[float] | None = None,
    keep: str | Path | None = None,
    callback: Callback | None = None,
    on_panel: Callable[[PanelDone], object] | None = None,
) -> Sheet:
    """Make a figure of the papers anew, of any pictures.

        make_figure("layers", "photo.jpg", "painting.jpg", Settings(size=192)).save("sheet.png")

    Args:
        name: ``layers`` (arXiv 1508.06576, figure 3: style layers down, alpha / beta across),
            ``content-layer`` (CVPR 2016, figure 5) or ``init`` (figure 6).
        content: as for ``stylize``.
        style: likewise.
        settings: of every panel, but for what the figure itself makes: layers and the weights of
            losses, and the start in ``init``. Elsewhere the start is noise, as the papers', where
            ``init`` is None.
        ratios: alpha / beta, ``content_weight / style_weight`` in the preset's formula: of
            ``layers`` the columns, else one; None: the paper's.
        keep: a folder for finished panels. One that is there already, of the same pictures and
            settings, is taken and not made again.
        callback: called with a ``Step`` for every iteration of every panel.
        on_panel: called with a ``PanelDone`` for every panel.

    Raises:
        ValueError: no such figure, a setting that is the figure's own, or as ``stylize``.
        Interrupted: on Ctrl-C; finished panels are in ``keep``.
    """
    for argument, function in (("callback", callback), ("on_panel", on_panel)):
        check_callable(argument, function)
    panels = panels_of(name, settings or Settings(), ratios)
    store = PanelStore(None if keep is None else check_folder(keep))
    runs = [panel for panel in panels if panel.settings is not None]
    inputs = _load(content, style, runs)
    hashes = _hashes(inputs)
    made: list[Finished] = []
    for panel in runs:
        began = perf_counter()
        finished, again = _finished(panel, inputs, hashes, store, callback)
        made.append(finished)
        if on_panel:
            seconds = 0.0 if again else perf_counter() - began
            on_panel(PanelDone(len(made), len(runs), panel.name, finished.record["loss"], seconds))
    rows = list(dict.fromkeys(panel.row for panel in panels))
    columns = [panel.column for panel in panels[: len(panels) // len(rows)]]
    sheet = draw_sheet(rows, columns, _pictures(panels, made, inputs))
    record = {
        "figure": name,
        "stylebench": __version__,
        "torch": torch.__version__,
        "content": inputs.content.name,
        "styles": [picture.name for picture in inputs.styles],
        "inputs": hashes,
        "panels": [
            {"row": panel.row, "column": panel.column, **finished.record}
            for panel, finished in zip(runs, made, strict=True)
        ],
    }
    metadata = replace(inputs.content.metadata, dpi=None)
    return Sheet(sheet, record, metadata)


def check_sheet(path: str | Path) -> Path:
    """Return ``path``, with ``~`` expanded, if a sheet and its record can be written there.

    Raises:
        FileError: as ``check_output``, or a JSON file of another kind is in the record's place.
    """
    path = check_output(path)
    beside = check_writable(path.with_suffix(".json"))
    if exists(beside):
        try:
            record = read_json(beside, _LARGEST_RECORD, "a figure's record")
        except FileError:
            record = None
        if not isinstance(record, dict) or record.get("figure") not in FIGURES:
            raise FileError(
                f"{beside}: exists, and is no figure's record, which would go there; take another "
                "--output, or remove it"
            )
    return path


def _load(content: ImageSource, style: Styles, runs: Sequence[Panel]) -> Inputs:
    """The pictures and the weights, refused where they are too small for the deepest panel."""
    settings = [panel.settings for panel in runs if panel.settings]
    deepest = max(settings, key=lambda one: one.resolved_preset().smallest_side)
    return load_inputs(content, style, deepest)


def _hashes(inputs: Inputs) -> dict[str, str]:
    """Name -> hash of the pictures and the weights."""
    weights = inputs.read_weights()
    return {"weights": weights.sha256 or "", **input_hashes(inputs)}


def _finished(
    panel: Panel,
    inputs: Inputs,
    hashes: Mapping[str, str],
    store: PanelStore,
    callback: Callback | None,
) -> tuple[Finished, bool]:
    """A panel, and whether it was there already."""
    settings = panel.settings
    if settings is None:
        raise RuntimeError(f"the panel {panel.name!r} is no run")
    identity = identity_of(settings, hashes)
    if kept := store.load(identity):
        return kept, True
    start = settings.init if inputs.init is None else inputs.init  # as it was read and hashed
    settings = replace(settings, weights=inputs.read_weights(), init=start)
    result = style_transfer(inputs.content, inputs.styles, settings, callback)
    return store.save(identity, result), False


def _pictures(
    panels: Sequence[Panel], made: Sequence[Finished], inputs: Inputs
) -> list[Image.Image]:
    """Every panel's picture; the content's is as large as the others."""
    runs = iter(made)
    size = made[0].image.height, made[0].image.width
    rgb, alpha = inputs.content.rgb, inputs.content.alpha
    content = to_pil(resize(rgb, size), None if alpha is None else resize(alpha, size))
    return [content if panel.settings is None else next(runs).image for panel in panels]

"""Hashes of a run's pictures, by which a checkpoint knows them again."""

from __future__ import annotations

from stylebench.image.load import Picture
from stylebench.transfer.hashing import hash_of
from stylebench.transfer.inputs import Inputs


def input_hashes(inputs: Inputs) -> dict[str, str]:
    """``content``, ``style 1`` and so on, ``init`` -> the hash of its pixels as they were loaded.

    Masks are ``mask 1`` and ``mask 1 of a style``. Weights that no file's hash tells are among them
    as well. Nothing here depends on the engine, its precision or its device.
    """
    loaded = inputs.loaded or inputs
    pictures = {"content": loaded.content}
    pictures |= {f"style {number}": style for number, style in enumerate(loaded.styles, start=1)}
    if loaded.init is not None:
        pictures["init"] = loaded.init
    hashes = {name: _of_picture(picture) for name, picture in pictures.items()}
    for number, pair in enumerate(inputs.masks.pairs if inputs.masks else (), start=1):
        hashes[f"mask {number}"] = hash_of({"mask": pair.content})
        if pair.style is not None:
            hashes[f"mask {number} of a style"] = hash_of({"mask": pair.style})
    if inputs.weights is not None and inputs.weights.sha256 is None:
        layers = inputs.weights.layers
        kinds = ("weight", "bias")
        hashes["weights"] = hash_of(
            {
                f"{name} {kind}": t
                for name in layers
                for kind, t in zip(kinds, layers[name], strict=True)
            }
        )
    return hashes


def _of_picture(picture: Picture) -> str:
    alpha = {} if picture.alpha is None else {"alpha": picture.alpha}
    return hash_of({"rgb": picture.rgb, **alpha})

"""Typed text as values: layers, scales and lists of numbers.

Nothing heavy is imported here, so that the command line can answer at once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from stylebench.files.paths import FileError

_BEFORE = "unknown |an entry of |the [^:]* in |"  # the name of a setting
_OPTIONS = {"masks": "--mask"}  # of settings, where they are of another name
_named: ContextVar[Collection[str]] = ContextVar("settings that have options", default=())


@contextmanager
def naming_options(settings: Collection[str]) -> Iterator[None]:
    """Let errors of settings name their options: ``--style-scale is 0``.

    Names of one word are common words, and are settings only where such a message begins. Errors of
    files stay as they are, since any word may be in a file's name, but for their advice: ``raise
    the size or style_scale``.

    Args:
        settings: names of those that the command has options for; others stay as they are.
    """
    token = _named.set(settings)
    try:
        yield
    except FileError as error:
        text = _with_advised(str(error), settings)
        if text == str(error):
            raise
        raise ValueError(text) from error
    except (ValueError, ArithmeticError) as error:
        raise ValueError(with_options(str(error))) from error
    finally:
        _named.reset(token)


def with_options(text: str) -> str:
    """A message with options in place of the settings of the ``naming_options`` around it."""
    settings = _named.get()
    if not settings:
        return text
    text = re.sub(rf"^({_BEFORE})({'|'.join(settings)})\b", _as_option, text)
    text = _with_advised(text, settings)
    long = "|".join(name for name in settings if "_" in name)
    return re.sub(rf"(^|[ (])({long})\b", _as_option, text) if long else text


def _with_advised(text: str, settings: Collection[str]) -> str:
    """``text`` with options where settings are advised: ``lower history to 5``."""
    names = "|".join(settings)
    after = rf"(?= to \d| or (?:{names})$|$)"
    return re.sub(rf"\b((?:lower|raise|or) )(?:the )?({names})\b{after}", _as_option, text)


def _as_option(match: re.Match[str]) -> str:
    setting = match[2]
    return match[1] + _OPTIONS.get(setting, f"--{setting.replace('_', '-')}")


def parse_layers(where: str, text: str | None) -> dict[str, float] | None:
    """``relu1_1,relu2_1=0.5`` -> layer -> weight, 1 where none is given.

    Raises:
        ValueError: a weight is not a number, a layer has no name, or is named twice; it names
            ``where`` it was typed.
    """
    if text is None:
        return None
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, weight = (piece.strip() for piece in part.partition("="))
        if not name:
            raise ValueError(
                f"{where}: {text!r} names a layer of no name: expected names between the commas, "
                "as relu1_1,relu2_1=0.5"
            )
        if name in weights:
            raise ValueError(f"{where} {text}: {name} is named twice, expected once")
        weights[name] = parse_number(f"{where} {part.strip()}", weight) if equals else 1.0
    return weights


def parse_scales(text: str) -> str | list[int] | dict[int, int]:
    """``128,256`` -> sizes in px, ``128=300,256=100`` -> size -> iterations; names as they are.

    Raises:
        ValueError: neither of the two, a mixture, or a size twice.
    """
    if text in ("auto", "none"):
        return text
    try:
        parts = [[int(number) for number in part.split("=")] for part in text.split(",")]
        if all(len(part) == 1 for part in parts):
            return [size for (size,) in parts]
        scales: dict[int, int] = dict(parts)  # type: ignore[arg-type]  # pairs, or a ValueError
    except ValueError:
        raise ValueError(
            f"--scales: {text!r} is not understood: expected auto, none, sizes as 128,256, or "
            "sizes with iterations as 128=300,256=100"
        ) from None
    if len(scales) < len(parts):
        raise ValueError(f"--scales: {text!r} names a size twice: expected each once")
    return scales


def parse_size(text: str | None) -> int | str | None:
    """``512`` -> px; ``content`` as it is.

    Raises:
        ValueError: neither.
    """
    if text is None or text == "content":
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--size is {text!r}: expected a whole number of px, or content") from None


def parse_sides(text: str) -> tuple[int, int]:
    """``512`` or ``512x320`` -> width and height in px.

    Raises:
        ValueError: neither.
    """
    match = re.fullmatch(r"([1-9]\d{0,8})(?:x([1-9]\d{0,8}))?", text, re.ASCII)
    if match is None:
        raise ValueError(
            f"--size is {text!r}: expected a whole number of px, or width x height as 512x320"
        )
    return int(match[1]), int(match[2] or match[1])


def parse_tile(text: str) -> int | str:
    """``2048`` -> px; anything else as it is, for ``Settings`` to judge."""
    return int(text) if text.isdecimal() and len(text) < 20 else text


def mask_files(masks: Sequence[tuple[Any, Any]] | None) -> list[Path]:
    """The files of ``--mask``, without the words in the place of one."""
    typed = [value for pair in masks or () for value in pair]
    return [Path(value) for value in typed if value not in ("none", "whole")]


def parse_numbers(where: str, text: str | None) -> list[float] | None:
    """``2,1`` -> numbers; as ``parse_number``."""
    return None if text is None else [parse_number(where, part) for part in text.split(",")]


def parse_number(where: str, text: str) -> float:
    """``text`` as a number; ValueError names ``where`` it was typed."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is not a number: expected one as 0.5") from None

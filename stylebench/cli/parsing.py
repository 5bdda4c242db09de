"""Typed text as values: layers, scales and lists of numbers.

Nothing heavy is imported here, so that the command line can answer at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def naming_options(choices: Iterable[str]) -> Iterator[None]:
    """Let errors that begin with the name of a setting name its option: ``--style-scale is 0``."""
    try:
        yield
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        if name not in choices:
            raise
        raise ValueError(f"--{name.replace('_', '-')} {rest}") from error


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


def parse_numbers(where: str, text: str | None) -> list[float] | None:
    """``2,1`` -> numbers; as ``parse_number``."""
    return None if text is None else [parse_number(where, part) for part in text.split(",")]


def parse_number(where: str, text: str) -> float:
    """``text`` as a number; ValueError names ``where`` it was typed."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is not a number: expected one as 0.5") from None

"""Values of settings, checked: each function returns Python's own type or names what is wrong.

numpy's scalars are welcome wherever Python's numbers are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np

_TOO_LARGE = 2**63  # for torch's integers


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number from ``least`` to 2^63 - 1.

    Raises:
        ValueError: anything else; the message names it.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise wrong(name, value, f"a whole number of {least} or more")
    if int(value) >= _TOO_LARGE:
        raise wrong(name, value, "a whole number below 2^63")
    return int(value)


def number(name: str, value: Any) -> float:
    """A finite number.

    Raises:
        ValueError: anything else; the message names it.
    """
    if not _is_number(value):
        raise wrong(name, value, "a finite number")
    return float(value)


def positive(name: str, value: Any) -> float:
    """A finite number above 0; ValueError for anything else."""
    if not _is_number(value) or not value > 0:
        raise wrong(name, value, "a finite number above 0")
    return float(value)


def weight(name: str, value: Any) -> float:
    """A finite number of 0 or more; ValueError for anything else."""
    if not _is_number(value) or not value >= 0:
        raise wrong(name, value, "a finite number >= 0")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """True or False; ValueError for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise wrong(name, value, "True or False")
    return bool(value)


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of ``choices``; ValueError for anything else."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"unknown {name} {shown(value)}: expected one of {', '.join(choices)}")
    return str(value)


def listed(name: str, value: Any, expected: str) -> list[Any]:
    """The items of any iterable but text and mappings; ValueError for anything else."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise wrong(name, value, expected)
    try:
        return list(value)
    except TypeError as error:  # an array of no dimension
        raise wrong(name, value, expected) from error


def check_distinct(name: str, values: Sequence[Any]) -> None:
    """Refuse what is named twice, of which the first would be lost."""
    doubled = [value for index, value in enumerate(values) if value in values[:index]]
    if doubled:
        raise ValueError(f"{name} name {shown(doubled[0])} twice: expected each once")


def check_callable(name: str, value: Any) -> None:
    """Refuse what is neither a function nor None."""
    if value is not None and not callable(value):
        raise wrong(name, value, "a function, or None")


def wrong(name: str, value: object, expected: str) -> ValueError:
    """The error that a value is not what was expected."""
    return ValueError(f"{name} is {shown(value)}: expected {expected}")


def shown(value: object) -> str:
    """``value`` as a message can hold it: one line of at most 80 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer of too many digits, and whatever a repr of others raises
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_number(value: Any) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False

"""What of a case tells how long something took, and so needs a proof beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Fields of a case that are times.
TIMES = ("timing", "in_situ", "setup", "roof_share", "parts", "curve")
#: Found in the names of a case's values that are.
TIME_VALUES = re.compile("second|B/s$|FLOP/s$")


def times(case: object, values: Iterable[str]) -> list[str]:
    """The names of those that ``case`` has, as fields and among its ``values``."""
    fields = [name for name in TIMES if getattr(case, name) not in (None, [], {})]
    return [*fields, *(name for name in values if TIME_VALUES.search(name))]

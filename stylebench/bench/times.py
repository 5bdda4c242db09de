"""What of a case tells how long something took, and so needs a proof beside it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stylebench.bench.record import Case

#: Fields of a case that are times.
TIMES = ("timing", "in_situ", "setup", "roof_share", "parts", "curve")
#: Found in the names of a case's values that are.
TIME_VALUES = re.compile("second|B/s$|FLOP/s$")


def times(case: Case) -> list[str]:
    """The names of those that ``case`` has."""
    fields = [name for name in TIMES if getattr(case, name) not in (None, [], {})]
    return [*fields, *(name for name in case.values if TIME_VALUES.search(name))]

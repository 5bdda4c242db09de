"""Times as they are taken, and which of them something disturbed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Samples:
    """Filled one by one; a verdict is about all since the last one.

    Attributes:
        seconds: each.
        disturbed: indices of those that were.
    """

    seconds: list[float] = field(default_factory=list)
    disturbed: list[int] = field(default_factory=list)
    _judged: int = 0

    def mark(self, disturbed: bool | None) -> None:
        """Mark the samples since the last verdict; None leaves them for the next one."""
        if disturbed is None:
            return
        if disturbed:
            self.disturbed += range(self._judged, len(self.seconds))
        self._judged = len(self.seconds)

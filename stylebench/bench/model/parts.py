"""The part of an iteration that a kernel belongs to, by the functions that launched it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_FUSED = r"stylebench\.engines\.fused\."
_OPS = r"stylekernels\.ops\."
OTHER = "other"
#: Part -> the functions whose kernels are its own. The innermost function that is in the table
#: decides; the order is that of an iteration.
_PARTS: Mapping[str, str] = {
    "enter": rf"{_OPS}image\.op:network_input",
    "convolutions forward": (
        rf"{_FUSED}convolution:(__call__|relu|relu_pool)$|{_OPS}pointwise\.op:bias"
    ),
    "pooling": rf"{_OPS}pool\.",
    "gram, finish": rf"{_OPS}style\.op:(gram|style_loss)_operator|{_FUSED}tap:losses",
    "content": rf"{_OPS}pointwise\.op:content_loss",
    "losses": rf"{_OPS}losses\.op:loss_terms|{_FUSED}engine:(_values|loss_and_grad)",
    "convolutions backward": rf"{_FUSED}convolution:(backward|image_gradient)",
    "tap backward": rf"{_OPS}style\.op:|{_FUSED}tap:",
    "masks": rf"{_OPS}pointwise\.cpu:mask_",
    "total variation": rf"{_OPS}tv\.",
    "leave": rf"{_OPS}image\.op:image_gradient|{_FUSED}engine:_backward",
    "optimizer": rf"{_OPS}lbfgs\.|stylebench\.optim\.",
    "log": rf"{_OPS}losses\.op:log|stylebench\.transfer\.stepper:|stylebench\.engines\.base:",
    OTHER: r"^$",
}
PARTS = tuple(_PARTS)
_PATTERNS = {part: re.compile(pattern) for part, pattern in _PARTS.items()}


def part_of(callers: Iterable[str]) -> str:
    """The part of a kernel, given the functions that led to it, innermost first."""
    for caller in callers:
        for part, pattern in _PATTERNS.items():
            if pattern.search(caller):
                return part
    return OTHER

"""The packages without which no stage on a lent GPU can begin."""

from __future__ import annotations

from importlib.util import find_spec

#: Module -> the package that it is of. All others are optional there.
_NEEDED = {
    "torch": "torch", "triton": "triton", "numpy": "numpy", "PIL": "pillow", "rich": "rich",
    "typer": "typer", "safetensors": "safetensors",
}  # fmt: skip


def missing() -> list[str]:
    """Packages that are not installed, to be told before the machine's minutes are spent."""
    return [package for module, package in _NEEDED.items() if find_spec(module) is None]

"""The hash by which sources are known again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def sources_hash(packages: Iterable[Path]) -> str:
    """SHA-256 over names and contents of every module, in a fixed order."""
    digest = hashlib.sha256()
    for package in packages:
        files = {f.relative_to(package.parent).as_posix(): f for f in package.rglob("*.py")}
        for name in sorted(files):
            digest.update(name.encode() + b"\0" + files[name].read_bytes() + b"\0")
    return digest.hexdigest()

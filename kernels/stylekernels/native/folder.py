"""The folder of machine code and measurements that the next start takes up."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``stylebench`` in the user's cache, or a folder that ``STYLEBENCH_CACHE`` names."""
    if folder := os.environ.get("STYLEBENCH_CACHE"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "stylebench"  # noqa: PTH111  # never raises

"""The browser of the person who started a run, where there is one on a screen."""

from __future__ import annotations

import os
import sys
import webbrowser
from threading import Thread


def open_in_browser(address: str) -> bool:
    """Have a browser open ``address``, without waiting for it; return whether one is asked to.

    None is asked without a display or over SSH: a browser in a terminal would take it over.
    """
    if not _has_screen():
        return False
    Thread(target=webbrowser.open, args=(address,), name="browser", daemon=True).start()
    return True


def _has_screen() -> bool:
    if sys.platform.startswith(("win", "darwin")):
        return "SSH_CONNECTION" not in os.environ
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))

"""The lock by which a run's temporary files and folders tell that it lives, however it ends."""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder until its descriptor is closed; do not wait.

    Returns:
        Whether it is locked now; False: another run holds it; None: there are no locks here, as in
        some network folders.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True

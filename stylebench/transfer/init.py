"""``Settings.init``: the names of starting images."""

from __future__ import annotations

from stylebench.transfer.values import shown

INITS = ("content", "noise", "style", "gray", "mean")
CONTENT_NOISE = "content+noise:"  # before the share of noise in a mixture
CHOICES = f"{', '.join(INITS)}, {CONTENT_NOISE}SHARE"  # for messages


def is_named(init: object) -> bool:
    """Whether ``init`` is a name, and no picture or file.

    A file of such a name is one by its path: ``./noise``, or ``Path("noise")``.
    """
    return isinstance(init, str) and (init in INITS or init.startswith(CONTENT_NOISE))


def checked_name(init: str) -> str:
    """A name, the share of noise in its shortest form.

    Raises:
        ValueError: the share of noise is no number from 0 to 1.
    """
    if init in INITS:
        return init
    try:
        share = float(init.removeprefix(CONTENT_NOISE))
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(
            f"init is {shown(init)}: expected a share of noise from 0 to 1, as {CONTENT_NOISE}0.2"
        )
    return f"{CONTENT_NOISE}{share:g}"

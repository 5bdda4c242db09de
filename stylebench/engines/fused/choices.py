"""The algorithm chosen for a layer: for the process, on the disk, and from checkpoints.

Measured anew, another algorithm might be the fastest, whose bits differ. A choice holds for one
machine: a processor or a GPU, and the versions of all that computes there.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock

from stylekernels.native import cache_folder, keep, read_kept

_FILE = "convolutions.json"
_choices: dict[str, dict[str, str]] = {}  # machine -> layer -> name of its algorithm
_proven: dict[tuple[str, str], str] = {}  # those that this process has measured or seen to hold
#: This process's choice -> that of all, in the thread that builds; a process alone takes its own.
_share: ContextVar[Callable[[str], str]] = ContextVar("share", default=str)
_lock = (
    RLock()
)  # two threads that measured at once would disturb each other, and choose differently


def choose_once(
    machine: str, layer: str, measure: Callable[[], str], holds: Callable[[str], bool]
) -> str:
    """The name of the algorithm that was chosen for a layer, or is measured now.

    Args:
        machine: that a measurement holds for.
        layer: likewise.
        measure: returns the fastest algorithm's name.
        holds: whether a name from the disk or a checkpoint can be used here; asked once a process.
    """
    with _lock:
        choices = _of(machine)
        name = choices.get(layer)
        if name is None or not (_proven.get((machine, layer)) == name or holds(name)):
            name = _keep(machine, layer, measure(), holds)
        name = _share.get()(name)
        choices[layer] = _proven[machine, layer] = name
        return name


@contextmanager
def choosing_as(share: Callable[[str], str]) -> Iterator[None]:
    """A block in which several processes choose alike, all of them layer by layer.

    Args:
        share: this process's choice -> that of all.
    """
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def choices_so_far() -> dict[str, dict[str, str]]:
    """Machine -> layer -> name of its algorithm, of this process's machines."""
    with _lock:
        return {machine: dict(choices) for machine, choices in _choices.items()}


def choose_as(choices: Mapping[str, Mapping[str, str]]) -> None:
    """Take the algorithms that ``choices_so_far`` told of, where this is the same machine."""
    with _lock:
        for machine, names in choices.items():
            _of(machine).update(names)


def forget() -> None:
    """Leave nothing but what is on the disk, as in a new process."""
    with _lock:
        _choices.clear()
        _proven.clear()


def _of(machine: str) -> dict[str, str]:
    """Layer -> name; those on the disk are read once a process."""
    if machine not in _choices:
        _choices[machine] = _read().get(machine, {})
    return _choices[machine]


def _keep(machine: str, layer: str, name: str, holds: Callable[[str], bool]) -> str:
    """The choice of this process, or what another one has chosen for the layer meanwhile."""
    kept = _read()
    other = kept.get(machine, {}).get(layer)
    chosen = other if other and other != name and holds(other) else name
    kept[machine] = {**kept.get(machine, {}), **_of(machine), layer: chosen}
    file = cache_folder() / _FILE
    if not keep(file, json.dumps(kept, indent=1).encode()):
        warnings.warn(
            f"{file} cannot be written: every start measures anew which convolutions are the "
            "fastest; STYLEBENCH_CACHE may name another folder",
            stacklevel=2,
        )
    return chosen


def _read() -> dict[str, dict[str, str]]:
    try:
        kept = json.loads(read_kept(cache_folder() / _FILE) or b"{}")
        return {
            machine: {layer: name for layer, name in choices.items() if isinstance(name, str)}
            for machine, choices in kept.items()
        }
    except (ValueError, AttributeError, RecursionError):
        return {}

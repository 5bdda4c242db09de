"""torch's global state during a run: the caller's does not matter, and comes back afterwards."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch

_AUTOCAST_DEVICES = ("cpu", "cuda", "mps")
_forked = False  # whether this process was forked after torch was loaded


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Defaults of torch within, and the caller's state afterwards.

    Under the caller's autocast the reference would compute in half precision, in inference mode or
    without gradients not at all. A run is deterministic without torch's switch for it, which would
    refuse operations that are.
    """
    if _forked:
        _compute_in_one_thread()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device() != torch.device("cpu"):  # the context slows every operation
            stack.enter_context(torch.device("cpu"))
        for device in _AUTOCAST_DEVICES:
            stack.callback(torch.set_autocast_enabled, device, torch.is_autocast_enabled(device))
            torch.set_autocast_enabled(device, False)
        stack.enter_context(_shared)
        yield


class _SharedState:
    """The state that all threads share: set by the first run, brought back after the last."""

    def __init__(self) -> None:
        self._lock, self._runs, self._caller = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._runs:
                self._replace()
            self._runs += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._runs -= 1
            if not self._runs:
                self._caller.close()

    def _replace(self) -> None:
        self._caller.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        if torch.are_deterministic_algorithms_enabled():  # the switch imports torch's compiler
            warns = torch.is_deterministic_algorithms_warn_only_enabled()
            self._caller.callback(torch.use_deterministic_algorithms, True, warn_only=warns)
            torch.use_deterministic_algorithms(False)


_shared = _SharedState()


def _compute_in_one_thread() -> None:
    """Keep OpenMP from waiting for threads that a fork does not copy."""
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        warnings.warn(
            "this process was forked, and OpenMP's threads are not copied: it computes in one "
            "thread; use multiprocessing's start method 'spawn' for more",
            stacklevel=2,
        )


def _note_fork() -> None:
    global _forked, _shared
    _forked, _shared = True, _SharedState()  # threads, and what they held, are not copied


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)

"""``--distributed``: the processes that torchrun started, of which the first speaks for all."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
import torch.distributed as dist

from stylebench import signals
from stylebench.cli.errors import ERROR, LAUNCHED, explain, told_once
from stylebench.cli.pipes import PIPE
from stylebench.processes.joining import LAUNCH
from stylebench.processes.ranks import ALONE, Group, RankGone, Ranks

_SIGNALS = 3  # of one Ctrl-C: the terminal's, and torchrun's


def check_shareable(
    *, view: bool, video: Path | None, pictures: Collection[Path], output: Path
) -> None:
    """Refuse what a command in several processes does not have.

    Raises:
        ValueError: a page or a film, which one process alone would draw; or a pipe, which one
            process alone would read or write.
    """
    alone = {
        "--view": view,
        "--video": video,
        "- as a picture": PIPE in pictures,
        "-o -": output == PIPE,
    }
    for option, typed in alone.items():
        if typed:
            raise ValueError(f"{option} is of one process: drop it, or --distributed")


def device_of(device: str | None) -> str | None:
    """The device of ``--device``: of several processes none but CPUs and CUDA GPUs can exchange."""
    return "cpu" if device is None and not torch.cuda.is_available() else device


@contextmanager
def sharing(distributed: bool, device: str | None) -> Iterator[Ranks]:
    """The processes of a command; of an error that ends it only the first of them tells.

    Args:
        distributed: whether there are others.
        device: as ``Settings.device``.

    Raises:
        ValueError: torchrun has not started this process, or ``device`` is one GPU of several.
    """
    if not distributed:
        yield ALONE
        return
    missing = [name for name in LAUNCHED if name not in os.environ]
    if missing:
        raise ValueError(
            f"--distributed: {missing[0]} is not set, which torchrun sets: start the command as "
            f"'{LAUNCH}'"
        )
    on_cpu = device_of(device) == "cpu"
    if not on_cpu and device not in (None, "cuda"):
        with told_once():
            raise ValueError(
                f"--device {device}: expected cpu or cuda, each process has a GPU of its own"
            )
    if not on_cpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group("gloo" if on_cpu else "nccl")
    ranks = Group(None, torch.device("cpu" if on_cpu else "cuda"))
    signals.hold(_SIGNALS)
    try:
        yield ranks
    except Exception as error:
        if _speaks(ranks, error) or explain(error) is None:
            raise
        sys.exit(ERROR)
    except KeyboardInterrupt:
        if ranks.first:
            raise
        sys.exit(signals.exit_code())
    with suppress(Exception):  # of an error the process ends at once
        dist.destroy_process_group()


def _speaks(ranks: Ranks, error: Exception) -> bool:
    """Whether this process tells of ``error``: the first of those that are left."""
    cause = error if isinstance(error, RankGone) else error.__cause__  # once options are named
    first_is_gone = isinstance(cause, RankGone) and cause.rank == 0
    return ranks.rank == int(first_is_gone)

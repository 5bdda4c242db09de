"""The ranks of a run: a group of their own, left as soon as one of them fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import cast

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, distributed_c10d  # type: ignore[attr-defined]

from stylebench.processes.ranks import ALONE, Group, RankError, Ranks, Unreachable
from stylebench.processes.watch import Watch

LAUNCH = "torchrun --nproc-per-node 2 -m stylebench stylize CONTENT STYLE --distributed"
_runs = count()


@contextmanager
def joined(distributed: bool, device: torch.device | None = None) -> Iterator[Ranks]:
    """The ranks of a run, which are those of ``torch.distributed``'s process group.

    An error that leaves the block on one of them leaves it on all, within seconds.

    Args:
        distributed: whether there are any but this process.
        device: of this rank.

    Raises:
        ValueError: there is no process group.
        RankError: naming the rank that failed, where it was another.
    """
    if not distributed:
        yield ALONE
        return
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError(
            "distributed is True, and no process group is there: start the command as "
            f"'{LAUNCH}', or call torch.distributed.init_process_group first"
        )
    if dist.get_world_size() == 1:
        yield ALONE
        return
    group = cast(dist.ProcessGroup, dist.new_group())
    ranks = Group(group, device or torch.device("cpu"))
    store = PrefixStore(f"stylebench {next(_runs)}", _own_store())
    watch = Watch(store, ranks.rank, ranks.size, on_loss=lambda: _leave(group))
    with watch.watching():
        try:
            yield ranks
        except Unreachable as error:
            raise watch.cause(str(error)) from error
        except BaseException as error:
            if not ranks.together:
                if isinstance(error, Exception) and (other := watch.noted()):
                    raise other from error  # what broke here was broken there
                watch.note(ranks.rank, _reason(error))
                _leave(group)
            raise
        finally:
            if ranks.together:
                with suppress(Exception):
                    dist.destroy_process_group(group)


def _own_store() -> Store:
    """A connection to the group's store that no other thread waits on."""
    return distributed_c10d._get_default_store().clone()  # noqa: SLF001  # torch names no other


def _leave(group: dist.ProcessGroup) -> None:
    """Break the connections, so that no process waits for another."""
    with suppress(Exception):
        group.abort()


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, RankError | ValueError) else f"{type(error).__name__}: {text}"

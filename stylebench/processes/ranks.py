"""The processes of a run, and all that they tell each other.

Sums are taken in the order of ranks, so that the same processes compute the same bits, each of
them. ``Ranks`` itself is one process alone, for whom every exchange is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

SMALL = 2**15  # bytes, up to which all is sent to all: one exchange in place of two


class Ranks:
    """One process alone.

    Attributes:
        rank: the number of this process, from 0.
        size: processes.
        sent: bytes that this process has sent so far.
        together: no error has parted this process from the others, which wait where it does.
        device: of the tensors that they exchange.
    """

    device = torch.device("cpu")
    rank = 0
    size = 1
    sent = 0
    together = True

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def gather(self, x: Tensor) -> Tensor:
        """The tensors ``x`` of all ranks, of one shape, in order: [size, ...]."""
        return x[None]

    def sum(self, x: Tensor) -> Tensor:
        """The sum of the tensors ``x`` of all ranks, of one shape, in order."""
        return x

    def swap(self, sends: Mapping[int, Tensor], receives: Mapping[int, Tensor]) -> None:
        """Send a tensor to each of some ranks, and fill one from each of some, at once.

        Args:
            sends: rank -> dense tensor.
            receives: rank -> dense tensor of the shape and dtype that it sends.
        """

    def of_first(self, x: Tensor) -> Tensor:
        """The tensor ``x`` of rank 0, whose bits all have from now on."""
        return x

    def word_of_first(self, word: str) -> str:
        """The ``word`` of rank 0."""
        return word

    def agree(self, error: BaseException | None = None) -> None:
        """Wait for all ranks; raise where any of them has an error.

        Args:
            error: of this rank, raised as it is.

        Raises:
            RankError: naming another rank and its error.
        """
        if error is not None:
            raise error

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """A block in which no rank waits for another, and which all leave by an error, or none."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
        self.agree(error)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """A block with exchanges in it: an error within leaves the others waiting."""
        yield


#: One process alone.
ALONE = Ranks()


class RankError(ValueError):
    """Another process of the run has failed.

    Attributes:
        rank: its number.
    """

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(f"rank {rank}: {reason}")
        self.rank = rank


class RankGone(RankError):
    """Another process of the run has ended without a word."""

    REASON = "is gone: it was killed, or its machine is out of reach"

    def __init__(self, rank: int) -> None:
        super().__init__(rank, self.REASON)


class Unreachable(RuntimeError):
    """The connection to another process broke."""


class ToldToStop(KeyboardInterrupt):
    """Another process of the run was told to stop.

    Attributes:
        number: of the signal.
    """

    def __init__(self, rank: int, number: int) -> None:
        super().__init__(f"rank {rank} was told to stop")
        self.number = number


class Group(Ranks):
    """The processes of a group of ``torch.distributed``.

    Args:
        group: None for all processes.
        device: of the tensors that are exchanged: ``cpu`` for gloo, this rank's GPU for nccl.
    """

    def __init__(self, group: dist.ProcessGroup | None, device: torch.device) -> None:
        self._group, self.device = group, device
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.sent = 0
        self.together = True

    def gather(self, x: Tensor) -> Tensor:  # noqa: D102
        gathered = x.new_empty((self.size, *x.shape))
        with self._reaching():
            dist.all_gather(list(gathered.unbind()), x.contiguous(), group=self._group)
        self.sent += x.nbytes * (self.size - 1)
        return gathered

    def sum(self, x: Tensor) -> Tensor:  # noqa: D102
        if x.nbytes <= SMALL:
            return in_order(self.gather(x))
        # Each rank adds up a part of its own.
        flat = torch.nn.functional.pad(x.flatten(), (0, -x.numel() % self.size))
        parts = flat.view(self.size, -1)
        mine = torch.empty_like(parts)
        mine[self.rank] = parts[self.rank]
        others = [rank for rank in range(self.size) if rank != self.rank]
        self.swap({r: parts[r] for r in others}, {r: mine[r] for r in others})
        return self.gather(in_order(mine)).flatten()[: x.numel()].view_as(x)

    def swap(self, sends: Mapping[int, Tensor], receives: Mapping[int, Tensor]) -> None:  # noqa: D102
        operations = [
            dist.P2POp(operation, tensor, peer, self._group)
            for operation, tensors in ((dist.isend, sends), (dist.irecv, receives))
            for peer, tensor in tensors.items()
            if tensor.numel()
        ]
        self.sent += sum(tensor.nbytes for tensor in sends.values())
        with self._reaching():
            for work in dist.batch_isend_irecv(operations) if operations else []:
                work.wait()

    def of_first(self, x: Tensor) -> Tensor:  # noqa: D102
        x = x.contiguous().clone()
        with self._reaching():
            dist.broadcast(x, 0, group=self._group)
        return x

    def word_of_first(self, word: str) -> str:  # noqa: D102
        words: list[str | None] = [None] * self.size
        with self._reaching():
            dist.all_gather_object(words, word, group=self._group)
        return words[0] or word

    def agree(self, error: BaseException | None = None) -> None:  # noqa: D102
        status = 0 if error is None else -1
        if isinstance(error, KeyboardInterrupt):
            status = int(getattr(error, "number", 2))
        states = self.gather(torch.tensor([status], device=self.device)).flatten().tolist()
        if not any(states):
            return
        reasons: list[str | None] = [None] * self.size
        reason = None if error is None else str(error) or type(error).__name__
        with self._reaching():
            dist.all_gather_object(reasons, reason, group=self._group)
        if error is not None:
            raise error
        rank = next(rank for rank, state in enumerate(states) if state)
        if states[rank] > 0:
            raise ToldToStop(rank, states[rank])
        raise RankError(rank, reasons[rank] or "failed")

    @contextmanager
    def apart(self) -> Iterator[None]:  # noqa: D102
        try:
            yield
        except BaseException:
            self.together = False
            raise

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """A block in which torch's errors are those of a connection."""
        try:
            yield
        except RuntimeError as error:
            self.together = False
            raise Unreachable(str(error).splitlines()[0]) from error


def in_order(parts: Tensor) -> Tensor:
    """The sum of ``parts`` [size, ...], one after the other."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total

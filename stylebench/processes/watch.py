"""A watch over the processes of a run: which of them failed, and which is gone without a word.

Each process writes a pulse to the store that all of them know, and the first that fails writes its
reason there. A process whose connections break reads there who broke them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import sleep

from torch.distributed import Store  # type: ignore[attr-defined]

from stylebench.processes.ranks import RankError, RankGone

# Time is counted in own pulses: of processes that Ctrl-Z stopped together none was silent.
_PULSE = 0.3  # s
_SILENT = 10  # pulses, 3 s, without one of a rank whose connections broke: it is gone
_LONG_SILENT = 50  # likewise, 15 s, where nothing has broken: torchrun kills all after 30
_FAILURE = "failure"


class Watch:
    """The pulse of this process, and what the store tells of the others.

    Args:
        store: of the group, that all processes reach.
        rank: of this process.
        size: processes.
        on_loss: called once another process has failed or is gone, from a thread of its own.
    """

    def __init__(self, store: Store, rank: int, size: int, on_loss: Callable[[], object]) -> None:
        self._store, self._rank, self._size, self._on_loss = store, rank, size, on_loss
        self._seen: dict[int, tuple[bytes, int]] = {}
        self._pulses = 0
        self._over = Event()
        self._thread = Thread(target=self._beat, daemon=True)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """A block in which the others see this process alive."""
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()

    def note(self, rank: int, reason: str) -> None:
        """Write down who has failed, if nobody was before."""
        with suppress(Exception):  # the store may be gone with rank 0
            self._store.compare_set(_FAILURE, "", f"{rank} {reason}")

    def cause(self, broken: str) -> RankError:
        """The error of the process that broke the connection, once it is known.

        Args:
            broken: the error of the connection.
        """
        try:
            for _ in range(2 * _SILENT):
                if error := self._read():
                    return error
                if (lost := self._silent(_SILENT)) is not None:
                    self.note(lost, RankGone.REASON)
                sleep(_PULSE)
        except Exception:  # rank 0 has the store, unless torchrun does
            return RankGone(0)
        return RankError(self._rank, f"lost its connection: {broken}")

    def _beat(self) -> None:
        told = False
        while not self._over.wait(_PULSE):
            self._pulses += 1
            with suppress(Exception):
                self._store.set(f"pulse {self._rank}", str(self._pulses))
                lost = self._silent(_LONG_SILENT)
                if lost is not None:
                    self.note(lost, RankGone.REASON)
                if not told and self._read():
                    told = True
                    self._on_loss()

    def noted(self) -> RankError | None:
        """The error that another process has written down, if there is one."""
        with suppress(Exception):
            error = self._read()
            return error if error and error.rank != self._rank else None
        return None

    def _read(self) -> RankError | None:
        if not self._store.check([_FAILURE]):
            return None
        rank, _, reason = self._store.get(_FAILURE).decode().partition(" ")
        return RankGone(int(rank)) if reason == RankGone.REASON else RankError(int(rank), reason)

    def _silent(self, pulses: int) -> int | None:
        """A rank whose pulse has stood still for so many of this one's."""
        now = self._pulses
        for rank in range(self._size):
            if rank == self._rank:
                continue
            key = f"pulse {rank}"
            pulse = self._store.get(key) if self._store.check([key]) else b""
            last, since = self._seen.get(rank, (None, now))
            if pulse != last:
                self._seen[rank] = pulse, now
            elif now - since > pulses:
                return rank
        return None

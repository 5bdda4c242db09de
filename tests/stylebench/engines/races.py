"""Races between two streams, found in a trace: what one touches while another may be at it."""

import weakref
from collections import defaultdict
from dataclasses import dataclass
from itertools import count

from stylekernels.model.tracer import Tracer, Wait


@dataclass(frozen=True)
class Access:
    """A kernel with the memory that it reads and writes, by number."""

    name: str
    stream: int
    reads: frozenset
    writes: frozenset


@dataclass(frozen=True)
class Freed:
    """Memory that the host has given back from here on."""

    memory: int


class Watching(Tracer):
    """A tracer that keeps no tensor, and so sees when memory is freed; ``events`` in order."""

    def __init__(self):
        super().__init__()
        self.events = self.trace.events
        self._numbers, self._count = weakref.WeakKeyDictionary(), count()

    def note(self, name, work, *, described=True):
        stream = self.streams.current_stream().number
        reads, writes = (
            frozenset(self._number(x) for x in tensors) for tensors in (work.reads, work.writes)
        )
        self.events.append(Access(name, stream, reads, writes))

    def _number(self, x):
        storage = x.untyped_storage()
        if storage not in self._numbers:
            number = self._numbers[storage] = next(self._count)
            weakref.finalize(storage, self.events.append, Freed(number))
        return self._numbers[storage]


class _Clocks:
    """Which kernels of each stream are known to be done, to each stream."""

    def __init__(self):
        self._known = defaultdict(lambda: defaultdict(int))

    def tick(self, stream):
        self._known[stream][stream] += 1
        return self._known[stream][stream]

    def wait(self, stream, other):
        for one, ticks in self._known[other].items():
            self._known[stream][one] = max(self._known[stream][one], ticks)

    def knows(self, stream, access):
        _, other, ticks = access
        return self._known[stream][other] >= ticks


def races(events):
    """What may go wrong, in words: accesses without an order, and memory reused too early.

    Memory belongs to the stream that touched it first, whose allocator reuses it once it is freed.
    """
    clocks, found = _Clocks(), []
    accesses = defaultdict(list)  # memory -> (kernel, stream, tick, wrote) since it was written
    owner, freed = {}, defaultdict(list)  # stream -> last accesses to memory it may reuse
    for event in events:
        if isinstance(event, Wait):
            clocks.wait(event.stream, event.other)
        elif isinstance(event, Freed):
            if event.memory not in owner:  # it was last touched before the first of the events
                continue
            freed[owner[event.memory]] += accesses.pop(event.memory)
        else:
            now = (event.name, event.stream, clocks.tick(event.stream))
            for old in freed.pop(event.stream, []):
                if not clocks.knows(event.stream, old[:3]):
                    found.append(f"{event.name} may write to freed memory that {old[0]} is at")
            for memory in event.reads | event.writes:
                owner.setdefault(memory, event.stream)
                for old in accesses[memory]:
                    wrote = memory in event.writes or old[3]
                    if wrote and not clocks.knows(event.stream, old[:3]):
                        found.append(f"{event.name} does not wait for {old[0]}")
            for memory in event.writes:
                accesses[memory] = [(*now, True)]
            for memory in event.reads - event.writes:
                accesses[memory].append((*now, False))
    return found

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


class _Detector:
    """Goes through events in order; ``found`` are the races, in words."""

    def __init__(self):
        self.found = []
        self._clocks = _Clocks()
        self._owner = {}  # memory -> the stream that touched it first, whose allocator reuses it
        self._accesses = defaultdict(list)  # memory -> (access, wrote) since it was last written
        self._reusable = defaultdict(list)  # stream -> accesses to freed memory that it may reuse

    def free(self, memory):
        if memory in self._owner:  # else it was last touched before the first of the events
            past = self._accesses.pop(memory, [])
            self._reusable[self._owner[memory]] += [access for access, _ in past]

    def wait(self, stream, other):
        self._clocks.wait(stream, other)

    def access(self, kernel):
        now = kernel.name, kernel.stream, self._clocks.tick(kernel.stream)
        for past in self._reusable.pop(kernel.stream, []):
            self._check(now, past, "may write to freed memory that is used by")
        for memory in kernel.reads | kernel.writes:
            self._owner.setdefault(memory, kernel.stream)
            for past, wrote in self._accesses[memory]:
                if wrote or memory in kernel.writes:
                    self._check(now, past, "does not wait for")
            if memory in kernel.writes:
                self._accesses[memory] = [(now, True)]
            else:
                self._accesses[memory].append((now, False))

    def _check(self, now, past, what):
        if not self._clocks.knows(now[1], past):
            self.found.append(f"{now[0]} {what} {past[0]}")


def races(events):
    """What may go wrong, in words: accesses without an order, and memory reused too early."""
    detector = _Detector()
    for event in events:
        if isinstance(event, Wait):
            detector.wait(event.stream, event.other)
        elif isinstance(event, Freed):
            detector.free(event.memory)
        else:
            detector.access(event)
    return detector.found

"""Candidates compiled side by side, each in a process that may die of it.

Triton's compiler holds Python's lock, can crash, and can take forever. Machine code goes to its
cache on the disk, where the process that measures finds it.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
LIMIT = 120.0
"""Seconds that a candidate may compile for."""


class Compilers(Generic[T]):
    """Processes that compile candidates.

    Args:
        compile_one: compiles a candidate; a function of a module, as processes are sent its name.
        jobs: number of processes.
        limit: seconds a candidate.
    """

    def __init__(self, compile_one: Callable[[T], object], jobs: int, limit: float = LIMIT) -> None:
        self._compile, self._limit = compile_one, limit
        self._threads = ThreadPoolExecutor(jobs)
        self._idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        for _ in range(jobs):
            self._idle.put(_process())

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End all processes."""
        del kind, error, at
        self._threads.shutdown(cancel_futures=True)
        while not self._idle.empty():
            _end(self._idle.get())

    def faults(self, candidates: Iterable[T]) -> list[str]:
        """Compile all candidates; return the fault of each, empty where there is none."""
        return list(self._threads.map(self._fault, candidates))

    def _fault(self, candidate: T) -> str:
        process = self._idle.get()
        try:
            future: Future[str] = process.submit(_fault_of, self._compile, candidate)
            return future.result(self._limit)
        except (BrokenProcessPool, TimeoutError) as fault:
            _end(process)
            process = _process()
            died = isinstance(fault, BrokenProcessPool)
            return "its compiler died" if died else f"not compiled within {self._limit:.0f} s"
        finally:
            self._idle.put(process)


def _fault_of(compile_one: Callable[[T], object], candidate: T) -> str:
    """Compile; not every compiler's exception could be sent back from the process."""
    try:
        compile_one(candidate)
    except Exception as fault:  # of a type of its own
        return f"{type(fault).__name__}: {fault}"
    return ""


def _process() -> ProcessPoolExecutor:
    """One process; spawned, as a fork would share this one's GPU and threads."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _end(process: ProcessPoolExecutor) -> None:
    for worker in list((process._processes or {}).values()):  # noqa: SLF001  # there is no other way
        worker.kill()
    process.shutdown(cancel_futures=True)

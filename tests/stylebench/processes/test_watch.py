"""The watch over other processes: who is silent, and who was only stopped."""

import time

from torch.distributed import HashStore

from stylebench.processes import watch
from stylebench.processes.watch import Watch


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_rank_without_a_pulse_is_gone(monkeypatch):
    monkeypatch.setattr(watch, "_PULSE", 0.01)
    store, lost = HashStore(), []
    store.set("pulse 1", "1")
    with Watch(store, 0, 2, on_loss=lambda: lost.append(1)).watching() as watching:
        wait_until(lambda: lost)
        assert str(watching.noted()).startswith("rank 1: is gone")


def test_processes_that_were_stopped_together_go_on(monkeypatch):
    """After Ctrl-Z and fg one of them wakes first, and sees a pulse that is as old as the stop."""
    store, lost, hours = HashStore(), [], iter(range(0, 10000, 1000))
    store.set("pulse 1", "1")
    watching = Watch(store, 0, 2, on_loss=lambda: lost.append(1))
    monkeypatch.setattr(watch, "monotonic", lambda: next(hours), raising=False)
    waits = iter([False, False, True])
    monkeypatch.setattr(watching._over, "wait", lambda _: next(waits))
    watching._beat()
    assert watching.noted() is None
    assert not lost

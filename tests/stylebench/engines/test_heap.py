"""Free memory goes back to the system, where there is a way."""

import ctypes
import sys

import pytest
import torch

from stylebench.bench.measure.memory import _resident
from stylebench.engines.heap import malloc_trim


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc"
)
def test_what_lies_between_blocks_in_use_is_given_back():
    blocks = [torch.ones(2**14) for _ in range(4096)]  # 64 KiB each, none mapped by itself
    kept = blocks[::64]
    malloc_trim()
    before = _resident("VmRSS")
    del blocks
    malloc_trim()
    assert before - _resident("VmRSS") > 2**27  # of 252 MiB
    assert len(kept) == 64


def test_elsewhere_nothing_is_looked_for(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", None)
    malloc_trim()
    assert ctypes.CDLL is None

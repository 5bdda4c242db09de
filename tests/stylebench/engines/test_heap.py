"""The heap's free memory is returned to the system, where the C library can."""

import ctypes
import re
import sys
from pathlib import Path

import pytest
import torch

from stylebench.engines.heap import malloc_trim


def resident_bytes():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc"
)
def test_free_memory_between_blocks_in_use_is_returned():
    blocks = [torch.ones(2**14) for _ in range(4096)]  # 64 KiB each: on the heap, not mapped
    in_use = blocks[::64]
    malloc_trim()
    before = resident_bytes()
    del blocks
    malloc_trim()
    assert before - resident_bytes() > 2**27  # of 252 MiB
    assert len(in_use) == 64


class Library:
    """A C library that records its calls."""

    def __init__(self):
        self.calls = []

    def malloc_trim(self, pad):
        self.calls.append(pad)


@pytest.mark.parametrize(("platform", "calls"), [("linux", [0]), ("win32", []), ("darwin", [])])
def test_only_linux_is_asked(monkeypatch, platform, calls):
    library = Library()
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    malloc_trim()
    assert library.calls == calls


def test_a_c_library_without_it_is_no_error(monkeypatch):
    opened = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: opened.append(name) or object())
    malloc_trim()
    assert opened == [None]

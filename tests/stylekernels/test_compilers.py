"""Compilers side by side: one that dies, hangs or raises costs its own candidate alone."""

import os
import signal
import time

import pytest

from stylekernels.tuning.compilers import Compilers

pytestmark = pytest.mark.slow  # processes that import torch
GOOD = ["a", "b", "c", "d"]


class OfItsOwn(Exception):
    """An exception that cannot be sent from a process to another: it is made of two."""

    def __init__(self, one, two):
        super().__init__(f"{one} of {two}")


def compile_one(candidate):
    if candidate == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if candidate == "hangs":
        time.sleep(600)
    if candidate == "raises":
        raise OfItsOwn("out", "memory")


@pytest.mark.skipif(os.name != "posix", reason="a process dies by a signal")
def test_a_candidate_takes_no_other_with_it():
    with Compilers(compile_one, 2) as compilers:
        faults = compilers.faults([*GOOD[:2], "dies", "raises", "dies", *GOOD[2:]])
        assert faults[:2] == faults[5:] == ["", ""]
        assert faults[4] == faults[2]
        assert faults[2] == "its compiler died"
        assert faults[3] == "OfItsOwn: out of memory"
        assert compilers.faults(GOOD) == len(GOOD) * [""]
        assert compilers.faults([]) == []


def test_a_candidate_that_takes_forever_is_given_up():
    with Compilers(compile_one, 1, limit=30.0) as compilers:
        assert compilers.faults(["a"]) == [""]  # its process has started
        compilers._limit = 0.2
        assert compilers.faults(["hangs"]) == ["not compiled within 0 s"]
        compilers._limit = 30.0
        assert compilers.faults(["a"]) == [""]

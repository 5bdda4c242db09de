"""Runs that cannot fit into memory are refused at once, with what would fit; others are not."""

import re
from math import inf

import pytest
import torch

from stylebench.image.load import fit
from stylebench.transfer import inputs, memory
from stylebench.transfer.memory import Memory, check_fits, memory_of
from stylebench.transfer.settings import Settings

GIB = 2**30
CPU = {"device": "cpu", "precision": "fp32", "engine": "fused", "tile": "none"}


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine of 24 GiB, 20 of them free."""
    monkeypatch.setattr(memory, "memory_of", lambda device: Memory(20 * GIB, 24 * GIB))


def check(size=512, style=None, **settings):
    content = fit((768, 1024), size)
    check_fits(Settings(**CPU | settings, size=size), content, [style or content])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"size": 20000},
            r"20000 x 15000 px with 20 pairs .* GiB, and cpu has 20.0 GiB free of 24",
        ),
        ({"size": 20000, "optimizer": "adam"}, "px with Adam need at least"),
        ({"size": 2**62}, "need at least .* bytes"),
        ({"history": 10**12}, "with 1000000000000 pairs of L-BFGS .*lower history to"),
        ({"history": 2**63 - 1, "optimizer": "torch-lbfgs"}, "lower history to"),
        ({"style": (384 * 10**6, 512 * 10**6)}, "style image of 512000000 x .*style_scale to"),
        ({"size": 6000, "engine": "reference"}, "lower the size to 4[0-9]+ px or less"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_there_is_and_what_would_fit(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        check(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [{"size": 20000}, {"size": 12000, "optimizer": "adam"}, {"size": 6000, "engine": "reference"}],
)
def test_the_size_that_is_advised_fits(settings):
    with pytest.raises(ValueError, match="the size to") as error:
        check(**settings)
    advised = int(re.search(r"the size to (\d+) px", str(error.value))[1])
    check(**settings | {"size": advised})
    with pytest.raises(ValueError, match="the size to"):
        check(**settings | {"size": advised + 2})


def test_the_history_that_is_advised_fits():
    with pytest.raises(ValueError, match="history to") as error:
        check(history=10**6, iterations=10**6)
    advised = int(re.search(r"history to (\d+) or less", str(error.value))[1])
    check(history=advised, iterations=10**6)
    with pytest.raises(ValueError, match="history to"):
        check(history=advised + 1, iterations=10**6)


def test_pairs_that_no_iteration_fills_are_not_counted_as_written():
    pairs = 5000  # 22 GiB, asked for, and not touched
    check(history=pairs, iterations=10)
    with pytest.raises(ValueError, match="5000 pairs"):
        check(history=pairs, iterations=pairs)


@pytest.mark.parametrize(
    ("engine", "precision", "side", "mib"),
    [
        ("reference", "fp32", 256, 362), ("reference", "fp32", 512, 891),
        ("reference", "fp32", 1024, 2458), ("reference", "fp32", 2048, 8602),
        ("fused", "bf16", 256, 156), ("fused", "bf16", 512, 326),
        ("fused", "bf16", 1024, 898), ("fused", "bf16", 2048, 3174),
    ],
)  # fmt: skip
def test_the_bound_is_below_what_was_measured(monkeypatch, engine, precision, side, mib):
    """The peaks of docs/memory-and-time.md, which were measured with 20 pairs."""
    run = {"engine": engine, "precision": precision, "size": side, "history": 20}
    monkeypatch.setattr(memory, "memory_of", lambda device: Memory(mib * 2**20, mib * 2**20))
    check(**run)
    monkeypatch.setattr(memory, "memory_of", lambda device: Memory(mib * 2**18, mib * 2**18))
    if side > 256:  # below, the weights are most of it
        with pytest.raises(ValueError, match="need at least"):
            check(**run)


def test_a_device_whose_memory_is_unknown_refuses_nothing(monkeypatch):
    monkeypatch.setattr(memory, "memory_of", lambda device: None)
    check(size=20000)


def test_the_memory_of_this_machine_is_told():
    found = memory_of(torch.device("cpu"))
    assert found is None or 0 < found.free <= found.whole < inf


def test_a_run_that_cannot_fit_is_refused_before_weights_are_read(photo, painting, monkeypatch):
    monkeypatch.setattr(inputs, "load_weights", lambda source: pytest.fail("weights were read"))
    for choices in ({"size": 10**9}, {"style_scale": 1e308}, {"size": 10**18, "scales": [64]}):
        with pytest.raises(ValueError, match=r"at least .* free of"):
            inputs.load_inputs(photo, painting, Settings(**CPU, **choices))

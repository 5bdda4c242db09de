"""Fixtures of the kernel tests: where they run, random activations, oracles in fp64.

The same files run three ways: on the code for CPUs, on the kernels natively (where a GPU exists),
and on the kernels in Triton's interpreter (under TRITON_INTERPRET=1, which `test_interpreter.py`
sets for a second Python).
"""

import os
from collections.abc import Callable, Iterator
from statistics import median

import pytest
import torch
from torch import Tensor

from stylekernels.runtime import config, dispatch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NATIVE = torch.cuda.is_available() and not INTERPRETED


def pytest_configure(config: pytest.Config) -> None:
    if INTERPRETED:  # of Triton 3.6's own loops; NumPy 2.4 made it an error
        ignored = "ignore:Conversion of an array with ndim > 0:DeprecationWarning"
        config.addinivalue_line("filterwarnings", ignored)


@pytest.fixture(params=["native"] if NATIVE else ["interpreter"] if INTERPRETED else ["cpu"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param != "interpreter":
        yield torch.device("cuda" if request.param == "native" else "cpu")
        return
    with dispatch.interpreted():
        yield torch.device("cpu")


@pytest.fixture
def large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the interpreter, which pays by the program, run few programs of large blocks."""
    rows = []
    for dtype in ("float32", "float16"):
        for channels in (64, 128, 256, 512):
            size = {"dtype": dtype, "channels": channels, "positions": 1024}
            warps = {"num_warps": 4, "num_stages": 2}
            rows += [
                {"kernel": "gram", "block_m": 1024, "block_c": 64, "split": 3, "one_load": True},
                {
                    "kernel": "backward",
                    "block_m": 1024,
                    "block_n": 64,
                    "block_k": 64,
                    "programs": 2,
                },
                {"kernel": "finish", "block_e": 4096, "block_s": 4},
            ]
            for row in rows[-3:]:
                row |= size | warps
    monkeypatch.setattr(config, "measured", lambda name: rows if name == "interpreter" else ())


@pytest.fixture(params=["fp32", "fp16", "bf16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    if request.param == "bf16" and INTERPRETED:
        pytest.skip("the interpreter's tl.dot returns garbage for bf16")
    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[request.param]


@pytest.fixture(params=["channels-last", "contiguous", "sliced", "permuted"])
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def activation(device: torch.device) -> Callable[..., Tensor]:
    """Random activations about zero, in the layout asked for."""
    generator = torch.Generator().manual_seed(7)

    def make(
        shape: tuple[int, ...], dtype: torch.dtype = torch.float32, layout: str = "channels-last"
    ) -> Tensor:
        batch, channels, height, width = shape
        if layout == "sliced":
            whole = torch.randn((batch, channels + 2, height, width + 3), generator=generator)
            x = whole.to(device, dtype)[:, 1:-1, :, 2:-1]
        elif layout == "permuted":
            whole = torch.randn((width, batch, height, channels), generator=generator)
            x = whole.to(device, dtype).permute(1, 3, 2, 0)
        else:
            x = torch.randn(shape, generator=generator).to(device, dtype)
            if layout == "channels-last":
                x = x.contiguous(memory_format=torch.channels_last)
        assert x.shape == shape
        return x

    return make


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """Fill new memory with NaN, so that an element never written shows.

    By the setting itself: torch.use_deterministic_algorithms also imports torch's compiler, which
    takes longer than most files of tests.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch._C._set_deterministic_algorithms(True)
    assert torch.empty(1).isnan().all()
    yield
    torch._C._set_deterministic_algorithms(before)


def relative(value: Tensor, oracle: Tensor) -> float:
    """Norm-wise error against an fp64 oracle."""
    value, oracle = value.detach().double().cpu(), oracle.detach().double().cpu()
    assert value.shape == oracle.shape
    assert value.isfinite().all()
    return float((value - oracle).norm() / oracle.norm().clamp_min(1e-30))


@pytest.fixture
def no_worse_than() -> Callable[..., None]:
    """Assert the project's tolerance: at most twice plain torch's error at the same precision.

    The floor covers results on which plain torch happens to be exact: one unit in the last place
    of the result, and for a scalar, whose error is a single draw, `ulps` of them. Lists of results
    are judged by their middle error.
    """

    def check(
        value: Tensor | list[Tensor],
        plain: Tensor | list[Tensor],
        oracle: Tensor | list[Tensor],
        ulps: float = 1.0,
    ) -> None:
        values, plains, oracles = (
            results if isinstance(results, list) else [results]
            for results in (value, plain, oracle)
        )
        error, yardstick = (
            median(relative(*pair) for pair in zip(results, oracles, strict=True))
            for results in (values, plains)
        )
        allowed = max(2 * yardstick, ulps * torch.finfo(values[0].dtype).eps)
        assert error <= allowed, f"error {error:.2e}, allowed {allowed:.2e}"

    return check


@pytest.fixture
def symmetric() -> Callable[[Tensor], bool]:
    """Say whether [B, C, C] equals its transpose, to the bit wherever products are ours.

    The interpreter's are NumPy's, which on some processors adds up a row in another order than the
    column that mirrors it.
    """

    def check(square: Tensor) -> bool:
        if INTERPRETED:
            return relative(square, square.mT) <= torch.finfo(square.dtype).eps
        return torch.equal(square, square.mT)

    return check

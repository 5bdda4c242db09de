"""Parity first, then time: on a GPU device time against a roof that the same run measured."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Run = Callable[[], tuple[Tensor, ...]]


def error(value: Tensor, oracle: Tensor) -> float:
    value = value.double().reshape(oracle.shape)
    return float((value - oracle).norm() / oracle.norm())


def parity(
    found: tuple[Tensor, ...], plain: tuple[Tensor, ...], oracle: tuple[Tensor, ...]
) -> float:
    """Return the worst error over eager torch's own, each against fp64; more than 2 is refused."""
    worst = 0.0
    for value, naive, exact in zip(found, plain, oracle, strict=True):
        floor = torch.finfo(value.dtype).eps * (1 if exact.dim() else 16)  # a scalar is one draw
        worst = max(worst, error(value, exact) / max(error(naive, exact), floor))
    assert worst <= 2.0, f"errs {worst:.2f} times as much as eager torch: no time is kept"
    return worst


@pytest.fixture(scope="session")
def roof() -> dict[str, float]:
    """Bytes and bf16 FLOPs a second that this GPU reaches, by a copy and by a large product."""
    from triton.testing import do_bench

    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    square = torch.randn((8192, 8192), device="cuda", dtype=torch.bfloat16)
    copy = do_bench(lambda: target.copy_(source), return_mode="median")
    product = do_bench(lambda: square @ square, return_mode="median")
    return {"bytes": 2e3 * source.numel() / copy, "flops": 2e3 * 8192**3 / product}


def record_gpu(benchmark, run: Run, z: Tensor, moved: int, roof: dict[str, float]) -> None:
    """Add what a wall clock cannot see: device times, rates, and shares of the roof."""
    from triton.testing import do_bench, do_bench_cudagraph

    source = z.clone()

    def behind_its_writer() -> None:
        z.copy_(source)
        run()

    cold = do_bench(run, return_mode="median")
    writer = do_bench_cudagraph(lambda: z.copy_(source), return_mode="median")
    in_situ = do_bench_cudagraph(behind_its_writer, return_mode="median") - writer
    flops = 2 * z.shape[1] * z.numel()
    assert moved / roof["bytes"] * 1e3 < 1.05 * cold, "faster than memory: the time is wrong"
    benchmark.extra_info |= {
        "cold_ms": cold,
        "in_situ_ms": in_situ,
        "GB/s": moved / cold / 1e6,
        "TFLOP/s": flops / cold / 1e9,
        "share_of_memory_roof": moved / cold * 1e3 / roof["bytes"],
        "share_of_product_roof": flops / cold * 1e3 / roof["flops"],
        "roof": roof,
    }


def measure(benchmark, request, run: Run, check: Callable[[], float], z: Tensor, moved: int):
    device = z.device.type

    def timed() -> None:
        run()
        if device == "cuda":
            torch.cuda.synchronize()

    check()
    benchmark.pedantic(timed, rounds=7, iterations=1, warmup_rounds=2)
    benchmark.extra_info["error_over_eager"] = check()
    benchmark.extra_info["threads"] = torch.get_num_threads()
    if device == "cuda":
        record_gpu(benchmark, run, z, moved, request.getfixturevalue("roof"))

"""The L-BFGS kernels: against plain torch, and compiled for GPUs that are not there.

Where there is no GPU the comparisons are made in Triton's interpreter, by `test_interpreter.py`.
"""

import importlib.util
import os
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import pytest
import torch
from torch import Tensor

from stylekernels.ops.lbfgs import cpu
from stylekernels.ops.lbfgs import op as lbfgs
from stylekernels.ops.lbfgs.state import ACTION, COUNT, HEAD, ROLL_BACK, LBFGSState, lbfgs_state
from stylekernels.runtime.config import Gpu, assuming
from stylekernels.runtime.dispatch import uses_triton
from stylekernels.tuning.aot import GPUS, compile_launch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
COMPILES = pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
ARCHITECTURES = pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: f"arch_{gpu.arch}")
CASES = {
    "one variable": {"n": 1, "history": 1, "splits": 1},
    "less than a block": {"n": 700, "history": 3, "splits": 1},
    "odd size past the wrap": {"n": 2049, "history": 3, "splits": 2},
    "more splits than columns": {"n": 1024, "history": 4, "splits": 5},
    "bf16 history": {"n": 1501, "history": 3, "splits": 1, "history_dtype": "bfloat16"},
    "history 20": {"n": 900, "history": 20, "splits": 1, "iterations": 4},
    "history 127": {"n": 300, "history": 127, "splits": 1, "iterations": 3},
    "a gradient with nan": {"n": 1025, "history": 3, "splits": 1, "bad": 4},
    "a loss with nan": {"n": 1025, "history": 3, "splits": 1, "bad": -4},
    "skipped pairs": {"n": 1025, "history": 3, "splits": 1, "concave": 3},
    "preconditioned": {"n": 2049, "history": 3, "splits": 2, "preconditioned": True},
    "preconditioned, a gradient with nan": {
        "n": 1025,
        "history": 3,
        "splits": 1,
        "bad": 4,
        "preconditioned": True,
    },
    "a safe start": {"n": 2049, "history": 3, "splits": 2, "level": 1e-3},
    "a safe start without a first pair": {
        "n": 1025,
        "history": 3,
        "splits": 1,
        "concave": 1,
        "level": 1e-3,
    },
    "a safe start that leaps": {
        "n": 1025,
        "history": 3,
        "splits": 1,
        "leap": 4,
        "level": 1e-3,
    },
}


def numbers(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version(package).split(".")[:2])


@pytest.fixture
def kernels(device: torch.device) -> torch.device:
    """Where the operators run as kernels."""
    if not uses_triton(torch.empty(0, device=device)):
        pytest.skip("plain torch would be compared with itself: see test_interpreter.py")
    if INTERPRETED and numbers("triton") < (3, 8) and numbers("numpy") >= (2, 4):
        pytest.skip("this Triton's interpreter cannot loop to a loaded bound under NumPy >= 2.4")
    return device


def differences(
    device: torch.device,
    n: int,
    history: int,
    splits: int,
    iterations: int = 7,
    history_dtype: str = "float32",
    bad: int = 0,
    concave: int = -1,
    leap: int = 0,
    level: float | None = None,
    preconditioned: bool = False,
) -> dict[str, float]:
    """Largest relative difference of each kernel's outputs from plain torch's.

    Both start every iteration from the same state, so that no difference is multiplied; the
    kernels go on from their own. What they must write is poisoned with NaN first.
    """
    generator = torch.Generator().manual_seed(n)
    scale = torch.logspace(0, -2, n, device=device)
    gains = torch.logspace(0, 1, n, device=device)
    x = torch.randn(n, generator=generator).to(device)
    reach = 4.0 if preconditioned else 1.0
    state = lbfgs_state(x, history, 1.0, getattr(torch, history_dtype), level, reach)
    largest: dict[str, float] = {}

    def compare(name: str, kernel: Tensor, plain: Tensor) -> None:
        kernel, plain = kernel.double(), plain.double()
        # A norm of differences that is NaN must not pass for a small one.
        difference = (kernel - plain).norm() / plain.norm().clamp_min(1e-30)
        value = float(torch.nan_to_num(difference, float("inf")))
        largest[name] = max(largest.get(name, 0.0), value)

    for i in range(iterations):
        grad = scale * x * (-1.0 if i == concave else 1.0)
        loss = 0.5 * (scale * x * x).sum()
        if i and i == bad:
            grad[n // 2] = float("nan")
        if i and i == -bad:
            loss = loss * float("nan")
        if i and i == leap:
            loss = loss * 1e3
        plain = LBFGSState(**{name: t.clone() for name, t in vars(state).items()})
        plain_x = x.clone()
        shape = (splits, *plain.partials.shape[1:])
        state = replace(
            state, partials=torch.full(shape, float("nan"), dtype=torch.float64, device=device)
        )
        state.coefficients.fill_(float("nan"))

        scaled = gains * grad if preconditioned else grad
        lbfgs.lbfgs_dots(*state.dots_operands(grad, scaled))
        cpu.dots(*plain.dots_operands(grad, scaled))
        if not (i and i == bad):
            compare("partials", state.partials.sum(0), plain.partials.sum(0))
            used = int(state.ring[COUNT]) + 1  # slots beyond are never read
            compare("y", state.history[:used], plain.history[:used])
        plain.partials.zero_()[0] = state.partials.sum(0)
        lbfgs.lbfgs_recursion(*state.recursion_operands(loss))
        cpu.recursion(*plain.recursion_operands(loss))
        compare("ring", state.ring, plain.ring)
        rolled_back = int(plain.ring[ACTION]) == ROLL_BACK
        if not rolled_back:
            compare("coefficients", state.coefficients, plain.coefficients)
        compare("gram", state.gram, plain.gram)
        compare("scalars", state.scalars[[0, 2, 3, 4]], plain.scalars[[0, 2, 3, 4]])
        plain.coefficients.copy_(state.coefficients)
        lbfgs.lbfgs_apply(*state.apply_operands(grad, x, scaled))
        cpu.apply(*plain.apply_operands(grad, plain_x, scaled))
        compare("image", x, plain_x)
        compare("best", state.best, plain.best)
        compare("previous", state.previous[::2], plain.previous[::2])
        head = int(state.ring[HEAD])
        compare("s", state.history[head, 0], plain.history[head, 0])
    return {**largest, "count": int(state.ring[1]), "rollbacks": int(state.ring[3])}


# the interpreter's NumPy warns of quotients that no pair is kept of
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value|overflow):RuntimeWarning")
@pytest.mark.parametrize("case", CASES)
def test_the_kernels_agree_with_plain_torch(kernels: torch.device, case: str) -> None:
    settings: dict[str, Any] = CASES[case]
    found = differences(kernels, **settings)
    assert found.pop("rollbacks") == bool(settings.get("bad") or settings.get("leap"))
    iterations = settings.get("iterations", 7)
    if stop := abs(settings.get("bad", 0)) or settings.get("leap", 0):
        expected = iterations - 2 - stop
    elif "concave" in settings:
        expected = iterations - 3  # a pair is lost on entering the concave step and on leaving it
    else:
        expected = iterations - 1
    assert found.pop("count") == min(settings["history"], expected)
    assert found.pop("ring") == 0.0
    # The interpreter truncates to bf16 where torch, and a GPU, rounds to nearest.
    truncated = "history_dtype" in settings
    assert found.pop("y") <= (2.0**-7 if truncated else 0.0)
    assert found.pop("s") <= (2.0**-7 if truncated else 1e-6)
    assert found.pop("gram") <= 1e-12
    assert found.pop("scalars") <= 1e-12
    assert max(found.values()) <= (2.0**-7 if truncated else 1e-5), found


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
@pytest.mark.parametrize("history", [3, 20])
def test_sums_of_many_splits_are_those_of_one(kernels: torch.device, history: int) -> None:
    generator = torch.Generator().manual_seed(history)
    states = []
    for splits in (150, 1):
        state = lbfgs_state(torch.zeros(64, device=kernels), history, 1.0, torch.float32)
        shape = (splits, *state.partials.shape[1:])
        drawn = torch.rand(shape, dtype=torch.float64, generator=generator).to(kernels)
        drawn = states[0].partials.sum(0, keepdim=True) if states else drawn
        state.ring.copy_(torch.tensor([2, 2, 5, 0, 0]))
        state.gram[:, :2, :2] = torch.eye(2, dtype=torch.float64) + 0.5
        states.append(replace(state, partials=drawn))
    many, one = states
    for state in states:
        lbfgs.lbfgs_recursion(*state.recursion_operands(torch.ones((), device=kernels)))
    assert one.coefficients.abs().sum() > 0
    assert torch.equal(many.ring, one.ring)
    for name in ("gram", "scalars", "coefficients"):
        torch.testing.assert_close(getattr(many, name), getattr(one, name), rtol=1e-10, atol=0.0)


def test_rows_beyond_2_31_elements_are_found(
    kernels: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 GiB of addresses; on a CPU only the pages that are touched are memory."""
    from stylekernels.ops.lbfgs.triton_passes import COLUMNS, apply_launches, dots_launches

    n, stride = 1024, 2**30
    offset = torch.tensor(2, dtype=torch.int32) * stride
    assert int(offset) < 0, "in 32 bits the row would begin before the history"
    if kernels.type == "cuda" and torch.cuda.mem_get_info()[0] < 22 << 30:
        pytest.skip("less than 22 GiB of GPU memory free")
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)
    generator = torch.Generator().manual_seed(0)
    history = torch.empty(2, 2, stride, dtype=torch.bfloat16, device=kernels)
    history[1, :, :n] = torch.randn(2, n, generator=generator).bfloat16()
    grad = torch.randn(n, generator=generator).to(kernels)
    previous = torch.empty(3, stride, device=kernels)
    previous[:, :n] = 0
    image, best = torch.zeros(2, 1, n, device=kernels)
    ring = torch.tensor([0, 1, 3, 0, 0], device=kernels)
    partials = torch.full((1, 6, 2), float("nan"), dtype=torch.float64, device=kernels)
    weights = torch.tensor([0.0, 0.0, 2.0, 3.0, 0.0], dtype=torch.float64, device=kernels)
    (dots,) = dots_launches(grad, grad, previous, history, ring, partials)
    scalars = torch.full((9,), float("inf"), dtype=torch.float64, device=kernels)
    (apply,) = apply_launches(grad, grad, weights, ring, scalars, image, best, previous, history)
    # Of rows this long the first columns only.
    replace(dots, arguments=dots.arguments | {"split": n}).run()
    rows = history[1, :, :n].double()
    replace(apply, grid=(n // COLUMNS,)).run()
    step = weights[2:4] @ rows
    assert float((partials[0, 2:4, 0] - rows @ grad.double()).abs().max()) < 1e-4
    assert float((image - step).norm() / step.norm()) < 2.0**-7


@pytest.mark.slow
@COMPILES
@ARCHITECTURES
@pytest.mark.parametrize("history_dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ["dots", "apply"])
@pytest.mark.parametrize("n", [20_001, 2**31 + 5], ids=["i32", "i64"])
def test_aot_the_passes_over_the_history_load_wide_and_spill_nothing(
    name: str, history_dtype: torch.dtype, gpu: Gpu, n: int
) -> None:
    if n >= 2**31 and gpu.arch != 90:
        pytest.skip("sizes beyond 2^31 differ in the types of two scalars only")
    from stylekernels.ops.lbfgs.triton_passes import apply_launches, dots_launches

    x = torch.empty(n, device="meta")
    state = lbfgs_state(x, 20, 1.0, history_dtype)
    if name == "dots":
        launches = dots_launches(*state.dots_operands(x))
    else:
        launches = apply_launches(*state.apply_operands(x, x))
    (found,) = (compile_launch(launch, gpu, name) for launch in launches)
    assert found.fault == ""
    assert found.registers <= 168, "three blocks of four warps fit an SM"
    assert found.wide_loads > 0


@pytest.mark.slow
@COMPILES
@ARCHITECTURES
@pytest.mark.parametrize("slots", [2, 21, 51, 101])
def test_aot_the_recursion_spills_nothing(slots: int, gpu: Gpu) -> None:
    from stylekernels.ops.lbfgs.triton_recursion import recursion_launches

    x = torch.empty(20_001, device="meta")
    state = lbfgs_state(x, slots - 1, 1.0, torch.float32)
    with assuming(gpu):
        launches = recursion_launches(*state.recursion_operands(x[0]))
    (found,) = (compile_launch(launch, gpu, "recursion") for launch in launches)
    assert found.fault == ""
    assert found.shared <= 99 * 1024


@pytest.mark.parametrize("lanes", [32, 64])
def test_every_number_of_slots_has_a_shape_whose_tiles_divide_it(lanes: int) -> None:
    from stylekernels.ops.lbfgs.triton_recursion import recursion_shape

    for slots in range(2, 129):
        shape = recursion_shape(slots, lanes)
        assert slots <= shape["SLOTS"] < max(2 * slots, 17)
        assert shape["SLOTS"] % shape["TILE"] == 0
        # A tile smaller than the block would be held, and replaced, by several threads at once.
        assert shape["TILE"] * shape["SLOTS"] >= lanes * shape["num_warps"]

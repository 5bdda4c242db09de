"""The L-BFGS kernels without a GPU: run in Triton's interpreter, compiled for every GPU.

The interpreter must be chosen before Triton is imported, so it runs in a second Python: this file
itself, which prints what it measured as JSON.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stylekernels import lbfgs
from stylekernels.lbfgs_state import ACTION, COUNT, HEAD, ROLL_BACK, LBFGSState, lbfgs_state

triton = pytest.importorskip("triton") if __name__ != "__main__" else None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
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
}


def differences(
    n: int,
    history: int,
    splits: int,
    iterations: int = 7,
    history_dtype: str = "float32",
    bad: int = 0,
    concave: int = -1,
) -> dict[str, float]:
    """Largest relative difference of each kernel's outputs from the plain functions'.

    Both start every iteration from the same state, so that no difference is multiplied; the
    kernels go on from their own. What they must write is poisoned with NaN first.
    """
    from stylekernels import lbfgs_recursion_triton, lbfgs_triton

    generator = torch.Generator().manual_seed(n)
    scale = torch.logspace(0, -2, n)
    x = torch.randn(n, generator=generator)
    state = lbfgs_state(x, history, 1.0, getattr(torch, history_dtype))
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
        plain = LBFGSState(**{name: t.clone() for name, t in vars(state).items()})
        plain_x = x.clone()
        shape = (splits, *plain.partials.shape[1:])
        state = replace(state, partials=torch.full(shape, float("nan"), dtype=torch.float64))
        state.coefficients.fill_(float("nan"))

        lbfgs_triton.dots(grad, state.previous, state.history, state.ring, state.partials)
        lbfgs.dots_plain(grad, plain.previous, plain.history, plain.ring, plain.partials)
        if not (i and i == bad):
            compare("partials", state.partials.sum(0), plain.partials.sum(0))
            used = int(state.ring[COUNT]) + 1  # what lies beyond is never read
            compare("y", state.history[:used], plain.history[:used])
        plain.partials.zero_()[0] = state.partials.sum(0)
        lbfgs_recursion_triton.recursion(
            state.partials, loss, state.gram, state.ring, state.scalars, state.coefficients
        )
        lbfgs.recursion_plain(
            plain.partials, loss, plain.gram, plain.ring, plain.scalars, plain.coefficients
        )
        compare("ring", state.ring, plain.ring)
        rolled_back = int(plain.ring[ACTION]) == ROLL_BACK
        if not rolled_back:
            compare("coefficients", state.coefficients, plain.coefficients)
        compare("gram", state.gram, plain.gram)
        compare("scalars", state.scalars[[0, 2, 3]], plain.scalars[[0, 2, 3]])
        plain.coefficients.copy_(state.coefficients)
        lbfgs_triton.apply(
            grad, state.coefficients, state.ring, x, state.best, state.previous, state.history
        )
        lbfgs.apply_plain(
            grad, plain.coefficients, plain.ring, plain_x, plain.best, plain.previous, plain.history
        )
        compare("image", x, plain_x)
        compare("best", state.best, plain.best)
        compare("previous", state.previous[0], plain.previous[0])
        head = int(state.ring[HEAD])
        compare("s", state.history[head, 0], plain.history[head, 0])
    return {**largest, "count": int(state.ring[1]), "rollbacks": int(state.ring[3])}


def far_rows() -> dict[str, float]:
    """Errors of the two passes on rows that begin at element 2^31 of the history.

    The history is 8 GiB of addresses; only the few pages that are touched become memory.
    """
    from stylekernels import lbfgs_triton

    n, stride = 1024, 2**30
    generator = torch.Generator().manual_seed(0)
    history = torch.empty(2, 2, stride, dtype=torch.bfloat16)
    history[1, :, :n] = torch.randn(2, n, generator=generator).bfloat16()
    grad = torch.randn(n, generator=generator)
    previous, image, best = torch.zeros(2, n), torch.zeros(n), torch.zeros(n)
    ring = torch.tensor([0, 1, 3, 0, 0])
    partials = torch.full((1, 5, 2), float("nan"), dtype=torch.float64)
    sizes = {"ROWS": lbfgs_triton.ROWS, "COLUMNS": lbfgs_triton.COLUMNS}
    lbfgs_triton.lbfgs_dots_kernel[(2, 1)](
        grad, previous, history, ring, partials, n, stride, 2, n, **sizes
    )
    rows = history[1, :, :n].double()
    coefficients = torch.tensor([0.0, 0.0, 2.0, 3.0, 0.0], dtype=torch.float64)
    lbfgs_triton.lbfgs_apply_kernel[(n // sizes["COLUMNS"],)](
        grad, coefficients, ring, image, best, previous, history, n, stride, 2, **sizes
    )
    step = coefficients[2:4] @ rows
    return {
        "dots": float((partials[0, 2:4, 0] - rows @ grad.double()).abs().max()),
        "apply": float((image - step).norm() / step.norm()),
    }


@pytest.fixture(scope="module")
def interpreted() -> dict[str, dict[str, float]]:
    import numpy as np

    old_triton = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9)
    if old_triton and tuple(map(int, np.__version__.split(".")[:2])) >= (2, 4):
        pytest.skip("this Triton's interpreter cannot loop to a loaded bound under numpy >= 2.4")
    root = Path(__file__).parents[2]
    paths = [str(root), str(root / "kernels"), os.environ.get("PYTHONPATH", "")]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.skipif(INTERPRETED, reason="the tests of this file choose the interpreter themselves")
@pytest.mark.parametrize("case", CASES)
def test_in_the_interpreter_the_kernels_agree_with_plain_torch(
    interpreted: dict[str, dict[str, float]], case: str
) -> None:
    found = dict(interpreted[case])
    settings: dict[str, Any] = CASES[case]
    assert found.pop("rollbacks") == bool(settings.get("bad"))
    iterations = settings.get("iterations", 7)
    if "bad" in settings:
        expected = iterations - 2 - abs(settings["bad"])
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


@pytest.mark.skipif(INTERPRETED, reason="the tests of this file choose the interpreter themselves")
def test_in_the_interpreter_rows_beyond_2_31_elements_are_found(
    interpreted: dict[str, dict[str, float]],
) -> None:
    offset = torch.tensor(2, dtype=torch.int32) * 2**30
    assert int(offset) < 0, "in 32 bits the row would begin before the history"
    assert interpreted["far rows"]["dots"] < 1e-4
    assert interpreted["far rows"]["apply"] < 2.0**-7


ARCHITECTURES = (80, 86, 89, 90, 100, 120)


def resources(kernel: Any, types: dict[str, str], constants: dict[str, int], sm: int) -> dict:
    """Registers, stack and shared memory of a kernel compiled for an architecture."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    warps = constants.pop("num_warps")
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    aligned = [i for i, n in enumerate(names) if signature[n][0] == "*" or n in ("stride", "split")]
    source = ASTSource(
        kernel,
        signature,
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    options = {"num_warps": warps, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {k: int(v) for k, v in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", text)}
    return {**found, "wide_loads": len(re.findall(r"ld\.global[.\w]*\.v4", compiled.asm["ptx"]))}


POINTERS = {
    **dict.fromkeys(("grad", "previous", "image", "best", "loss"), "*fp32"),
    **dict.fromkeys(("partials", "coefficients", "gram", "scalars"), "*fp64"),
    "ring": "*i64",
}


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.parametrize("sm", ARCHITECTURES)
@pytest.mark.parametrize("history", ["*fp32", "*bf16"])
@pytest.mark.parametrize("name", ["lbfgs_dots_kernel", "lbfgs_apply_kernel"])
@pytest.mark.parametrize("n", ["i32", "i64"])
def test_aot_the_passes_over_the_history_load_wide_and_spill_nothing(
    name: str, history: str, sm: int, n: str
) -> None:
    if n == "i64" and sm != 90:
        pytest.skip("sizes beyond 2^31 differ in the types of two scalars only")
    from stylekernels import lbfgs_triton

    constants = {
        "ROWS": lbfgs_triton.ROWS,
        "COLUMNS": lbfgs_triton.COLUMNS,
        "num_warps": lbfgs_triton.WARPS,
    }
    types = {**POINTERS, "history": history, "n": n, "stride": n, "split": n}
    found = resources(getattr(lbfgs_triton, name), types, constants, sm)
    assert found["STACK"] == 0
    assert found["LOCAL"] == 0
    assert found["REG"] <= 168, "three blocks of four warps fit an SM"
    assert found["wide_loads"] > 0


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.parametrize("sm", ARCHITECTURES)
@pytest.mark.parametrize("slots", [2, 21, 51, 101])
def test_aot_the_recursion_spills_nothing(slots: int, sm: int) -> None:
    from stylekernels import lbfgs_recursion_triton

    constants = lbfgs_recursion_triton.recursion_shape(slots)
    found = resources(lbfgs_recursion_triton.lbfgs_recursion_kernel, POINTERS, constants, sm)
    assert found["STACK"] == 0
    assert found["LOCAL"] == 0
    assert found["SHARED"] <= 99 * 1024


def test_every_number_of_slots_has_a_shape_whose_tiles_divide_it() -> None:
    from stylekernels import lbfgs_recursion_triton

    for slots in range(2, 129):
        shape = lbfgs_recursion_triton.recursion_shape(slots)
        assert slots <= shape["SLOTS"] < max(2 * slots, 17)
        assert shape["SLOTS"] % shape["TILE"] == 0
        # A tile smaller than the block would be held, and replaced, by several threads at once.
        assert shape["TILE"] * shape["SLOTS"] >= 32 * shape["num_warps"]


if __name__ == "__main__":
    measured = {case: differences(**settings) for case, settings in CASES.items()}  # type: ignore[arg-type]
    print(json.dumps({**measured, "far rows": far_rows()}))  # noqa: T201

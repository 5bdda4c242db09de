"""Inner products of a history in native code, against fp64."""

import pytest
import torch

from stylekernels import lbfgs_dots
from stylekernels.ops.lbfgs import native
from stylekernels.ops.lbfgs.state import ROW, lbfgs_state

pytestmark = pytest.mark.skipif(
    not native.supports(torch.empty(2, ROW), torch.empty(2, ROW)),
    reason="no native code on this platform",
)


def operands(columns, rows=6):
    generator = torch.Generator().manual_seed(8)
    return [torch.randn(count, columns, generator=generator) for count in (rows, 2)]


# less than a sum, one, a block and more, and a last sum that is shorter
@pytest.mark.parametrize("columns", [ROW, 2 * ROW, 16 * ROW, 17 * ROW, 51 * ROW])
@pytest.mark.parametrize("rows", [1, 6])
def test_products_are_right(columns, rows):
    history, vectors = operands(columns, rows)
    exact = history.double() @ vectors.double().T
    lengths = history.double().norm(dim=1)[:, None] * vectors.double().norm(dim=1)
    result = native.products(history, vectors)
    assert result.dtype == torch.float64
    assert ((result - exact).abs() / lengths).max() <= 2e-8


def test_any_number_of_threads_gives_the_same_bits():
    history, vectors = operands(51 * ROW)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(native.products(history, vectors))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


def test_what_is_no_number_shows_in_its_row_alone():
    history, vectors = operands(ROW)
    history[2, 700] = torch.nan
    lost = native.products(history, vectors).isnan()
    assert lost[2].all()
    assert lost.sum() == 2


@pytest.mark.parametrize(
    ("rows", "vectors"),
    [
        (torch.empty(4, ROW).bfloat16(), torch.empty(2, ROW)),
        (torch.empty(4, ROW).double(), torch.empty(2, ROW).double()),
        (torch.empty(4, 24), torch.empty(2, 24)),
        (torch.empty(4, ROW), torch.empty(2, 2 * ROW)),
        (torch.empty(4, 2 * ROW)[:, ::2], torch.empty(2, ROW)),
        (torch.empty(4, ROW), torch.empty(2, 2 * ROW)[:, ::2]),
        (torch.empty(4, ROW, device="meta"), torch.empty(2, ROW, device="meta")),
    ],
    ids=["bf16", "fp64", "columns", "lengths", "rows apart", "vectors apart", "device"],
)
def test_others_are_left_to_plain_torch(rows, vectors):
    assert not native.supports(rows, vectors)


def test_long_histories_take_it(monkeypatch):
    taken = []
    products = native.products
    monkeypatch.setattr(native, "products", lambda *given: taken.append(1) or products(*given))
    for length in (1000, 20000):  # short ones are taken in fp64
        x = torch.ones(length)
        lbfgs_dots(*lbfgs_state(x, 3, 1.0, torch.float32).dots_operands(x))
    assert taken == [1]

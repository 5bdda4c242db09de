"""The loss terms in one vector, and the log of them."""

import pytest
import torch

import stylekernels as sk
from stylekernels.ops.losses import naive


def scalars(count, device):
    values = torch.rand(count, generator=torch.Generator().manual_seed(count)) * 1e4
    return [value.clone() for value in values.to(device)]


@pytest.mark.parametrize("count", [1, 6, 17])
@pytest.mark.parametrize("factor", [1.0, 2.0**-11, 0.3])
def test_terms_and_total_are_plain_torchs(count, factor, device, no_worse_than):
    losses, check = scalars(count, device), torch.zeros(1500, device=device)
    values, total = sk.loss_terms(losses, factor, check)
    plain, plain_total = naive.loss_terms(losses, factor, check)
    assert torch.equal(values, plain)
    exact = sum(loss.double().cpu() for loss in losses) * factor
    no_worse_than(total, plain_total, exact, ulps=count)
    assert total.dim() == 0


@pytest.mark.parametrize("place", [0, 1023, 1024, 1499])
def test_a_fault_anywhere_in_the_check_is_in_every_term(place, device):
    check = torch.zeros(1500, device=device)
    check[place] = float("nan")
    values, total = sk.loss_terms(scalars(3, device), 1.0, check)
    assert values.isnan().all()
    assert total.isnan()


def test_a_loss_without_bounds_stays_in_its_term(device):
    losses = scalars(3, device)
    losses[1].fill_(float("inf"))
    values, total = sk.loss_terms(losses, 0.5, torch.zeros(1, device=device))
    assert values.isinf().tolist() == [False, True, False]
    assert total.isinf()


@pytest.mark.parametrize("count", [torch.tensor(3), torch.tensor(3.0, dtype=torch.float64)])
def test_the_log_goes_round(count, device):
    log = torch.zeros(3, 5, device=device)
    place = torch.zeros(1, dtype=torch.int64, device=device)
    rows = torch.arange(16.0, device=device).view(4, 4)
    ring = torch.stack([count, count + 1]).to(device)  # a view is what optimizers have
    for values in rows:
        sk.log_row_(log, place, values, ring[1])
    assert place.tolist() == [1]
    assert torch.equal(log[:, :4], rows[[3, 1, 2]])
    assert (log[:, 4] == 4).all()


def test_what_does_not_belong_together_is_refused(device):
    log, values = torch.zeros(3, 5, device=device), torch.zeros(4, device=device)
    place, count = torch.zeros(1, dtype=torch.int64, device=device), torch.zeros((), device=device)
    with pytest.raises(ValueError, match=r"one value less than its columns, got \(3,\)"):
        sk.log_row_(log, place, values[:3], count)
    with pytest.raises(ValueError, match=r"place must be \[1\] torch.int64"):
        sk.log_row_(log, place.int(), values, count)
    with pytest.raises(ValueError, match="got none"):
        sk.loss_terms([], 1.0, count)
    with pytest.raises(ValueError, match=r"scalars, got one of shape \(4,\)"):
        sk.loss_terms([values], 1.0, count)

"""Several processes compute what one does, and as many of them the same bits every time.

The processes run ``checks.py`` once for all tests: starting them takes longer than what they do.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stylebench import Keep
from stylebench.engines import ENGINES as WHOLE_ENGINES
from stylebench.processes.ranks import ALONE

from . import checks
from .launch import launched

LIMIT = 300  # s
ALL = [2, pytest.param(3, marks=pytest.mark.slow)]


def outcomes(ranks, folder, *more):
    """What every rank has kept."""
    with launched(ranks, [Path(checks.__file__), folder, *more]) as started:
        said = [process.communicate(timeout=LIMIT)[0] for process in started]
        assert [process.returncode for process in started] == [0] * ranks, said
    return [torch.load(folder / f"results-{rank}.pt") for rank in range(ranks)]


@pytest.fixture(scope="module", params=ALL)
def of_all(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    half = replace(checks.RUNS["lbfgs"], iterations=5)
    checks.run(half, keep=Keep(folder / "alone.safetensors", 5))
    return outcomes(request.param, folder), folder


@pytest.fixture(scope="module")
def alone():
    """Name -> losses and picture of one process, made when first asked for."""
    made = {}

    def run(name):
        if name not in made:
            made[name] = checks.run(checks.RUNS[name])
        return made[name]

    return run


def error(x, y):
    return float((x - y).norm() / y.norm())


def check_engine(case, result):
    values, gradient = result
    bound, image = checks.problem(case)
    terms, expected = WHOLE_ENGINES[case[0]](*bound).loss_and_grad(image)
    torch.testing.assert_close(values, terms.values, rtol=1e-12, atol=0)
    assert error(gradient, expected) < 1e-12


@pytest.mark.parametrize("name", checks.ENGINES)
def test_bands_give_the_whole_pictures_loss_and_gradient(of_all, name):
    results, _ = of_all
    check_engine(checks.ENGINES[name], results[0][name])


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_a_band_may_be_lower_than_its_halo(tmp_path, ranks):
    (first, *_) = outcomes(ranks, tmp_path, "deep")
    for name, case in checks.DEEP_ENGINES.items():
        check_engine(case, first[name])


def test_every_rank_has_the_same_loss(of_all):
    first, *others = of_all[0]
    for other in others:
        for name in checks.ENGINES:
            assert torch.equal(other[name][0], first[name][0])
        for name in checks.RUNS:
            assert other[name][0] == first[name][0]


def test_the_preconditioner_is_that_of_the_whole_picture(of_all):
    expected = checks.filtered()
    for results in of_all[0]:
        torch.testing.assert_close(results["filtered"], expected, rtol=0, atol=1e-12)


def test_lbfgs_moves_and_rolls_back_as_one_process(of_all):
    image, rollbacks = checks.stepped()
    assert rollbacks == 1
    for results in of_all[0]:
        moved, back = results["stepped"]
        assert back == 1
        torch.testing.assert_close(moved, image, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", checks.RUNS)
def test_a_run_is_that_of_one_process(of_all, alone, name):
    losses, picture = of_all[0][0][name]
    expected, expected_picture = alone(name)
    assert len(losses) == len(expected)
    allowed = 2e-2 if name == "polished" else 1e-5  # bf16 rounds at its third digit
    assert losses == pytest.approx(expected, rel=allowed)
    assert error(picture, expected_picture) < allowed


def test_as_many_processes_compute_the_same_bits(of_all):
    for results in of_all[0]:
        losses, picture = results["lbfgs in fp32"]
        again, same = results["lbfgs in fp32 again"]
        assert losses == again
        assert torch.equal(picture, same)


def test_only_rank_0_has_the_whole_picture(of_all):
    heights = [results["lbfgs"][1].shape[1] for results in of_all[0]]
    assert heights[0] == 50
    assert sum(heights[1:]) < 50


def test_a_run_goes_on_with_no_bit_different(of_all):
    results = of_all[0][0]
    losses, picture = results["gone on"]
    assert losses == results["lbfgs"][0]
    assert torch.equal(picture, results["lbfgs"][1])


def test_a_checkpoint_goes_on_in_as_many_processes_as_there_are(of_all, alone):
    results, folder = of_all
    expected, _ = alone("lbfgs")
    assert results[0]["from one"][0] == pytest.approx(expected, rel=1e-5)
    losses, _ = checks.run(checks.RUNS["lbfgs"], resume=folder / "own.safetensors")
    assert losses == pytest.approx(expected, rel=1e-5)


def test_pictures_on_the_way_are_whole_on_rank_0(of_all):
    first, *_ = of_all[0]
    assert first["pictures"] == {2: (50, 66, 3), 4: (50, 66, 3)}


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("bad input", "ImageError", "none.png"),
        ("another picture", "RankError", "it has other pictures, weights or settings than rank 0"),
        ("another rhythm", "RankError", "it has other pictures, weights or settings than rank 0"),
        ("nan", "Diverged", "'content relu2_1' became NaN or infinite at iteration 1 on rank {}"),
        ("callback", "KeyError", "a callback's own"),
        ("engine", "RuntimeError", "a GPU fell off the bus"),
    ],
)
def test_an_error_of_one_rank_ends_all_and_names_it(of_all, name, kind, line):
    *others, own = [results[name] for results in of_all[0]]
    last = len(others)
    line = line.format(last)
    assert own[0] == kind
    assert line in own[1]
    for other in others:
        assert other[0] == (kind if kind == "Diverged" else "RankError")
        assert line in other[1]
        assert f"rank {last}" in other[1]


def test_the_best_image_is_kept_where_all_end_together(of_all):
    shapes = [results["callback"][2] for results in of_all[0]]
    assert tuple(shapes[0]) == (3, 50, 66)
    assert all(results["engine"][2] is None for results in of_all[0])


def test_a_process_group_survives_a_run_that_failed(of_all):
    assert all(results["afterwards"][0] == "done" for results in of_all[0])


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("too low", "processes cannot share a picture of 15 rows, 16 or more to each: start 1"),
        ("tolerances", "is one process's: choose lbfgs or adam, and no tolerances"),
        ("picture", "sync_every is 2: of several processes' picture there is one at its multiples"),
    ],
)
def test_what_several_processes_cannot_do_is_said_in_a_line(of_all, name, line):
    for results in of_all[0]:
        kind, said, _ = results[name]
        assert kind == "ValueError"
        assert line in said


def test_without_a_process_group_the_command_is_named():
    with pytest.raises(ValueError, match="torchrun --nproc-per-node 2 -m stylebench stylize"):
        checks.run(replace(checks.QUICK, distributed=True))


def test_an_error_of_one_process_alone_parts_it_from_nobody():
    with pytest.raises(KeyError), ALONE.apart():
        raise KeyError
    assert ALONE.together

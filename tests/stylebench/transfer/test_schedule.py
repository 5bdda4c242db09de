"""Coarse to fine: the order of the phases, the warm start, and what a user sees of them."""

import weakref

import pytest
import torch

from stylebench import Interrupted, Settings, style_transfer, stylize
from stylebench.transfer import api
from stylebench.transfer.problem import build_problem
from stylebench.transfer.schedule import make_schedule, polish_iterations, warm_start

from .problems import SHALLOW, WHOLE, problem_of

QUICK = {"weights": "random", "device": "cpu", "size": 48, "iterations": 4, **SHALLOW}


def phases(**settings):
    return make_schedule(Settings(**settings))


def test_scales_are_run_in_order_the_size_last():
    assert Settings(size=512, iterations=300).schedule() == {512: 300}
    assert Settings(size=512, iterations=300, scales=[128, 256]).schedule() == {
        128: 300, 256: 300, 512: 300
    }  # fmt: skip
    some = Settings(size=512, iterations=300, scales={128: 50, 256: 20})
    assert some.schedule() == {128: 50, 256: 20, 512: 300}
    sizes = [(phase.settings.size, phase.settings.iterations) for phase in make_schedule(some)]
    assert sizes == list(some.schedule().items())
    assert all(
        phase.total == 370 and phase.settings.scales is None for phase in make_schedule(some)
    )


def test_the_share_of_the_work_goes_by_pixels_and_a_cost_that_every_iteration_has():
    coarse, fine = phases(size=192, iterations=10, scales={64: 50})  # costs of 10 and of 2
    assert (coarse.share(0), coarse.share(25), coarse.share(50)) == (0.0, 0.25, 0.5)
    assert (fine.share(0), fine.share(10)) == (0.5, 1.0)


# Seconds that an iteration takes at a size on a CPU's core, and what is done once before it.
MEASURED = {64: (0.0436, 1.5), 128: (0.115, 0.5), 256: (0.354, 1.0)}


def test_the_time_to_go_is_right_from_the_second_iteration_of_a_phase_on():
    run = phases(size=256, iterations=64, scales={64: 32, 128: 32})
    clock, told = 0.0, []
    for phase in run:
        seconds, once = MEASURED[phase.settings.size]
        first = clock = clock + once + seconds
        for done in range(1, phase.iterations + 1):
            told.append((done, clock, phase.seconds_to_go(done, first, clock)))
            clock += seconds if done < phase.iterations else 0
    for done, now, to_go in told:
        if done > 1:
            assert to_go == pytest.approx(clock - now, rel=0.15, abs=0.1)
    assert told[-1][2] == 0.0


def test_the_first_iteration_goes_by_the_run_so_far():
    (phase,) = phases(size=64, iterations=4, scales=None)
    assert phase.seconds_to_go(1, first=3.0, now=3.0) == pytest.approx(9.0)
    assert phase.seconds_to_go(2, first=3.0, now=4.0) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ([256, 128], r"scales are 256, 128 px, then 512 px: expected each smaller than the next"),
        ([512], r"scales are 512 px, then 512 px"),
        ([0], r"an entry of scales is 0: expected a whole number of 1 or more"),
        ({128: 0}, r"the number of iterations at 128 in scales is 0: expected a whole number"),
        ([128.5], r"an entry of scales is 128.5"),
    ],
)
def test_a_wrong_schedule_is_named(scales, message):
    with pytest.raises(ValueError, match=message):
        Settings(size=512, scales=scales)


def test_a_small_image_that_did_not_move_moves_no_large_one(photo, painting):
    coarse, fine = (problem_of(photo, painting, Settings(**QUICK | {"size": s})) for s in (24, 48))
    start = warm_start(coarse.image, coarse.image, fine).image
    assert torch.equal(start, fine.image)


def test_the_change_of_a_small_image_is_added_to_the_large_one(photo, painting):
    coarse, fine = (problem_of(photo, painting, Settings(**QUICK | {"size": s})) for s in (24, 48))
    start = warm_start(coarse.image + 0.25, coarse.image, fine).image
    assert torch.allclose(start, fine.image + 0.25, atol=1e-6)


def test_noise_is_upsampled_as_it_has_become(photo, painting):
    given = QUICK | {"init": "noise"}
    coarse, fine = (problem_of(photo, painting, Settings(**given | {"size": s})) for s in (24, 48))
    start = warm_start(torch.full_like(coarse.image, 0.5), coarse.image, fine).image
    assert torch.allclose(start, torch.full_like(fine.image, 0.5), atol=1e-6)


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_a_run_over_scales_is_one_run(photo, painting, engine):
    steps = []
    settings = Settings(**QUICK, engine=engine, scales={24: 3, 32: 2})
    result = style_transfer(photo, painting, settings, steps.append)
    assert result.image.size == (48, 32)
    assert [step.iteration for step in steps] == list(range(1, 10))
    assert {step.iterations for step in steps} == {9}
    assert [step.share for step in steps] == sorted(step.share for step in steps)
    assert steps[-1].share == 1.0
    assert list(result.losses.index) == list(range(1, 10))
    assert result.parameters["iterations_done"] == 9
    assert result.parameters["best_iteration"] >= 6
    assert result.parameters["schedule"] == {24: 3, 32: 2, 48: 4}
    seconds = result.losses["seconds"]
    assert seconds.is_monotonic_increasing


@pytest.mark.slow
def test_starting_small_starts_lower(photo, painting):
    settings = {**QUICK, **WHOLE, "size": 96, "iterations": 1}
    alone = style_transfer(photo, painting, Settings(**settings))
    warm = style_transfer(photo, painting, Settings(**settings, scales={48: 40}))
    assert warm.history[-1]["loss"] < 0.5 * alone.history[-1]["loss"]


def test_an_interrupt_on_the_way_up_gives_the_small_image(photo, painting):
    def stop(step):
        if step.iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as interrupt:
        stylize(photo, painting, **QUICK, scales=[24], callback=stop)
    assert len(interrupt.value.result.history) == 3
    assert interrupt.value.result.image.size == (24, 16)


def test_an_interrupt_before_the_next_scale_begins_gives_the_small_image(
    photo, painting, monkeypatch
):
    def stopped_at_48(inputs, settings, **more):
        if settings.size == 48:
            raise KeyboardInterrupt
        return build_problem(inputs, settings, **more)

    monkeypatch.setattr(api, "build_problem", stopped_at_48)
    with pytest.raises(Interrupted) as interrupt:
        stylize(photo, painting, **QUICK, scales=[24])
    assert interrupt.value.result.image.size == (24, 16)
    assert interrupt.value.result.parameters["loss"] < float("inf")


def half(**more):
    return Settings(**QUICK | {"engine": "fused", "precision": "bf16", **more})


@pytest.mark.slow
def test_the_last_iterations_are_polished_in_fp32(photo, painting):
    steps, problems = [], []
    settings = half(iterations=12, polish=5, scales={24: 2}, **WHOLE)
    result = style_transfer(photo, painting, settings, steps.append, problems.append)
    assert [problem.parameters["precision"] for problem in problems] == ["bf16", "bf16", "fp32"]
    assert [step.iteration for step in steps] == list(range(1, 15))
    assert [step.share for step in steps] == sorted(step.share for step in steps)
    assert (result.parameters["precision"], result.parameters["polish"]) == ("bf16", 5)
    # From where bf16 had come to: one iteration later, and a little lower by fp32's account.
    losses = result.losses["loss"]
    assert losses[10] < 1.5 * losses[9]
    assert result.parameters["best_iteration"] >= 10


@pytest.mark.slow
def test_a_polish_keeps_the_curvature(photo, painting):
    """A descent begun anew would take a first step of a hair's length."""
    settings = half(iterations=30, polish=8, pooling="average", **WHOLE)
    polished = style_transfer(photo, painting, settings).losses["loss"]
    assert polished[30] < 0.97 * polished[23]


def test_polish_is_for_half_precision_and_for_runs_where_it_shows():
    assert polish_iterations(half(iterations=300)) == 150
    assert polish_iterations(half(iterations=300, size=64, scales={32: 100})) == 90
    assert polish_iterations(half(iterations=300, polish=0)) == 0
    assert polish_iterations(half(iterations=50)) == 0
    assert polish_iterations(half(iterations=4, polish=9)) == 4
    assert polish_iterations(half(iterations=300, precision="fp16")) == 0
    assert polish_iterations(half(iterations=300, precision="fp16", polish=7)) == 7
    assert polish_iterations(half(iterations=300, precision="fp32")) == 0
    with pytest.raises(ValueError, match="polish is -1: expected a whole number of 0 or more"):
        half(polish=-1)


def test_an_interrupted_polish_gives_what_bf16_came_to(photo, painting, monkeypatch):
    def stopped_in_fp32(inputs, settings, **more):
        if settings.precision == "fp32":
            raise KeyboardInterrupt
        return build_problem(inputs, settings, **more)

    monkeypatch.setattr(api, "build_problem", stopped_in_fp32)
    with pytest.raises(Interrupted) as interrupt:
        style_transfer(photo, painting, half(iterations=6, polish=2))
    assert interrupt.value.result.parameters["iterations_done"] == 4


@pytest.mark.parametrize("settings", [{"scales": {24: 2}}, {"precision": "bf16", "polish": 2}])
def test_no_two_engines_are_in_memory_at_once_where_none_are_kept(
    photo, painting, monkeypatch, settings
):
    engines = []

    def build(*arguments, **named):
        assert not any(engine() for engine in engines)
        problem = build_problem(*arguments, **named)
        engines.append(weakref.ref(problem.engine))
        return problem

    monkeypatch.setattr(api, "build_problem", build)
    style_transfer(photo, painting, Settings(**QUICK, engine="fused", **settings), reuse=False)
    assert len(engines) == 2


def test_a_polish_that_auto_precision_has_no_use_for_is_told(photo, painting):
    choices = {"weights": "random", "size": 32, "iterations": 2, "device": "cpu"}
    settings = Settings(**choices, engine="reference", polish=1)
    with pytest.warns(UserWarning, match="polish is 1, and precision 'auto' is fp32 here"):
        result = style_transfer(photo, painting, settings)
    assert (result.parameters["precision"], result.parameters["polish"]) == ("fp32", 0)

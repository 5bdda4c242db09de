"""Runs that cannot fit into memory are refused at once, with what would fit; others are not."""

import re
import warnings
from math import inf

import pytest
import torch

from stylebench.image.load import ImageError, fit
from stylebench.model.precision import PRECISIONS
from stylebench.model.tiles import Tiling
from stylebench.transfer import api, inputs, memory, plan, prepare
from stylebench.transfer.footprint import Choices, footprint
from stylebench.transfer.inputs import Sizes
from stylebench.transfer.memory import Memory, held, memory_of
from stylebench.transfer.plan import MARGIN, make_plan
from stylebench.transfer.settings import Settings

GIB, MIB = 2**30, 2**20
CPU = {"device": "cpu", "precision": "fp32", "engine": "fused", "scales": None}


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine of 24 GiB, 20 of them free."""
    have(monkeypatch, 20 * GIB)


def have(monkeypatch, free):
    monkeypatch.setattr(plan, "memory_of", lambda device: Memory(free, 24 * GIB))


def planned(size=512, style=None, reuse=False, **settings):
    def sizes_at(longest):
        content = fit((768, 1024), longest)
        return Sizes(content, [style or content])

    settings = CPU | {"tile": "none"} | settings
    return make_plan(Settings(**settings, size=size), sizes_at, reuse=reuse)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"size": 20000},
            r"20000 x 15000 px with 20 pairs .* GiB, and cpu has 20.0 GiB free of 24.0 GiB: lower",
        ),
        ({"size": 20000}, r"the size to 4\d+ px, or history to 5 and the size to 4\d+ px$"),
        ({"size": 20000, "optimizer": "adam"}, r"px with Adam need .* the size to 5\d+ px$"),
        ({"size": 2**62}, "need .* bytes"),
        ({"history": 10**12}, "with 1000000000000 pairs of L-BFGS .* lower history to 4"),
        (
            {"style": (38400, 51200), "style_scale": 100.0},
            r"style image of 51200 x .* lower style_scale to 11\.\d+$",
        ),
        ({"size": 6000, "engine": "reference"}, r"lower the size to 2\d+ px, or history to 5"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_there_is_and_what_would_fit(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        planned(**settings).check()
    assert "\n" not in str(error.value)


def test_the_advice_is_not_led_astray_by_sizes_that_are_too_small():
    def sizes_at(longest):
        if longest < 3000:
            raise ImageError("the style: too small")
        return Sizes(fit((768, 1024), longest), [(64, 64)])

    line = make_plan(Settings(**CPU, tile="none", size=20000), sizes_at).line()
    assert re.search(r"lower the size to 4\d\d\d px, or history to 5 and the size to 4", line)


@pytest.mark.parametrize(
    "settings",
    [{"size": 20000}, {"size": 12000, "optimizer": "adam"}, {"size": 6000, "engine": "reference"}],
)
def test_the_size_that_is_advised_is_the_largest_that_fits(settings):
    advised = int(re.search(r"the size to (\d+) px", planned(**settings).line())[1])
    settings |= {} if "optimizer" in settings else {"history_dtype": "fp32"}
    assert planned(**settings | {"size": advised}).fits
    assert not planned(**settings | {"size": advised + 2}).fits


def test_the_history_that_is_advised_is_the_longest_that_fits():
    run = {"history_dtype": "fp32", "iterations": 10**6}
    advised = int(re.search(r"history to (\d+)$", planned(history=10**5, **run).line())[1])
    assert planned(history=advised, **run).fits
    assert not planned(history=advised + 1, **run).fits


def test_the_larger_size_with_five_pairs_fits_with_five_and_not_with_more():
    line = planned(size=20000).line()
    size = int(re.search(r"history to 5 and the size to (\d+) px", line)[1])
    run = {"size": size, "history_dtype": "fp32"}
    assert planned(**run, history=5).fits
    assert not planned(**run, history=6).fits


def test_the_style_scale_that_is_advised_is_the_largest_that_fits():
    def in_style(scale):
        return planned(style=(round(384 * scale), round(512 * scale)), style_scale=scale)

    advised = float(re.search(r"style_scale to ([\d.]+)$", in_style(100.0).line())[1])
    assert in_style(advised).fits
    assert not in_style(advised + 0.1).fits


def test_a_style_image_that_is_too_tall_is_cut_beside_a_low_picture(monkeypatch):
    have(monkeypatch, 6 * GIB)
    sizes = Sizes((48, 1024), [(4096, 4096)])
    plan = make_plan(Settings(**CPU, size=1024), lambda longest: sizes)
    assert plan.fits
    assert plan.settings.tile != "auto"


def test_no_style_scale_is_advised_where_the_run_fits_with_none():
    def sizes_at(longest):
        return Sizes(fit((768, 1024), longest), [(50 * longest, 50 * longest)])

    settings = Settings(**CPU, tile="none", size=20000, style_scale=50.0)
    line = make_plan(settings, sizes_at).line()
    assert re.search(r"^a style image of .* lower the size to \d+ px$", line)


#: Peaks in MiB of processes on two cores with AVX-512 and bf16, less those before the run: default
#: settings but one scale, 3 iterations, 4:3.
MEASURED = [
    ("fused", "fp32", 256, 374), ("fused", "fp32", 512, 867),
    ("fused", "fp32", 1024, 2843), ("fused", "fp32", 2048, 5750),
    ("fused", "bf16", 256, 303), ("fused", "bf16", 512, 746),
    ("fused", "bf16", 1024, 2491), ("fused", "bf16", 2048, 4533),
    ("reference", "fp32", 256, 384), ("reference", "fp32", 512, 800),
    ("reference", "fp32", 1024, 2343), ("reference", "fp32", 2048, 8375),
    ("eager", "fp32", 256, 414), ("eager", "bf16", 512, 1118),
]  # fmt: skip


@pytest.mark.parametrize(("engine", "precision", "side", "mib"), MEASURED)
def test_the_estimate_is_within_its_margin_of_what_was_measured(engine, precision, side, mib):
    polish = 0 if precision == "bf16" else None
    run = {"engine": engine, "precision": precision, "iterations": 3, "polish": polish}
    needed = planned(side, **run).needed
    assert abs(needed / (mib * MIB) - 1) <= MARGIN


@pytest.mark.parametrize(("engine", "precision", "side", "mib"), MEASURED)
def test_what_fits_what_was_measured_is_not_refused(monkeypatch, engine, precision, side, mib):
    run = {"engine": engine, "precision": precision, "iterations": 3, "history_dtype": "fp32"}
    run |= {"history_dtype": None, "polish": 0 if precision == "bf16" else None}
    have(monkeypatch, mib * MIB)
    with warnings.catch_warnings(action="ignore"):
        planned(side, **run).check()
    have(monkeypatch, mib * MIB // 4)
    with pytest.raises(ValueError, match=" free of "):
        planned(side, **run).check()


def test_what_may_not_fit_is_warned_of_and_not_refused(monkeypatch):
    run = {"size": 1024, "history_dtype": "fp32"}
    have(monkeypatch, round(0.95 * planned(**run).needed))
    with pytest.warns(UserWarning, match="memory may run out: 1024 x 768 px"):
        planned(**run).check()


def test_a_history_in_bf16_is_chosen_where_the_run_fits_no_other_way(monkeypatch):
    assert planned(1024).settings.history_dtype is None
    have(monkeypatch, 3 * planned(1024).needed // 4)
    chosen = planned(1024)
    assert chosen.settings.history_dtype == "bf16"
    assert chosen.fits
    with pytest.warns(UserWarning, match="history_dtype is bf16, so that the run fits"):
        chosen.check()
    assert planned(1024, history_dtype="fp32").settings.history_dtype == "fp32"


def test_torchs_own_pairs_are_counted_as_the_iterations_add_them():
    run = {"optimizer": "torch-lbfgs", "history": 50}
    few, more, full, beyond = (
        planned(**run, iterations=count).largest.footprint.history for count in (5, 10, 50, 90)
    )
    assert more == 2 * few
    assert beyond == full == 10 * few


def test_the_peak_of_a_run_with_a_polish_is_that_of_its_fp32():
    bf16 = planned(precision="bf16", polish=0, iterations=100)
    polished = planned(precision="bf16", polish=50, iterations=100)
    assert [phase.choices.precision.name for phase in polished.phases] == ["bf16", "fp32"]
    assert polished.needed > bf16.needed


def test_smaller_scales_take_no_more_than_the_size_asked_for():
    alone, scaled = planned(), planned(scales=[128, 256])
    assert [max(phase.sizes.content) for phase in scaled.phases] == [128, 256, 512]
    assert scaled.needed == alone.needed


def test_engines_that_wait_for_later_runs_are_counted_and_not_kept_where_they_do_not_fit(
    monkeypatch,
):
    alone, kept = planned(scales=[128, 256]), planned(scales=[128, 256], reuse=True)
    engines = sum(phase.footprint.engine for phase in alone.phases[:-1])
    assert kept.needed == alone.needed + engines
    have(monkeypatch, kept.needed - 1)
    without = planned(scales=[128, 256], reuse=True)
    assert (without.reuse, without.needed) == (False, alone.needed)
    assert without.settings.history_dtype is None


def test_the_paper_is_told_of_its_size_and_not_of_its_style():
    line = planned(20000, preset="paper", optimizer="adam").line()
    assert line.startswith("20000 x 15000 px with Adam need")


def test_bands_of_rows_take_less_than_the_whole_picture():
    choices = {
        tile: Choices(
            "fused", PRECISIONS["fp32"], "lbfgs", 20, torch.float32,
            Settings().resolved_preset(), 500, torch.device("cpu"), tile and Tiling(tile),
        )
        for tile in (None, 512, 1024)
    }  # fmt: skip
    whole, small, large = (
        footprint(choice, (4096, 4096), [(512, 512)], True).maps for choice in choices.values()
    )
    assert small < large < whole


def test_a_device_whose_memory_is_unknown_refuses_nothing(monkeypatch):
    monkeypatch.setattr(plan, "memory_of", lambda device: None)
    planned(size=20000).check()


def test_the_memory_of_this_machine_is_told():
    found = memory_of(torch.device("cpu"))
    assert found is None or 0 < found.free <= found.whole < inf


def test_the_memory_that_this_process_takes_more_is_held_by_it():
    before = held(torch.device("cpu"))
    block = torch.ones(64 * MIB, dtype=torch.uint8)
    assert not before or held(torch.device("cpu")) - before > 0.9 * block.nbytes


def test_a_containers_limit_is_the_memory_there_is(monkeypatch, tmp_path):
    files = {
        "memory.max": 3 * GIB,
        "memory.current": 2 * GIB,
        "memory.stat": f"inactive_file {GIB}",
    }
    for name, value in files.items():
        (tmp_path / name).write_text(f"{value}\n")
    names = ("memory.max", "memory.current", "inactive_file")
    monkeypatch.setattr(memory, "_LIMITS", {tmp_path: names})
    monkeypatch.setattr(memory, "_main_memory", lambda: Memory(20 * GIB, 24 * GIB))
    assert memory_of(torch.device("cpu")) == Memory(2 * GIB, 3 * GIB)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_of(torch.device("cpu")) == Memory(20 * GIB, 24 * GIB)


@pytest.mark.parametrize(
    "choices", [{"size": 10**9}, {"style_scale": 1e308}, {"size": 10**18, "scales": [64]}]
)
def test_a_run_that_cannot_fit_is_refused_before_weights_are_read(
    photo, painting, monkeypatch, choices
):
    for module in (inputs, prepare):
        monkeypatch.setattr(module, "load_weights", lambda source: pytest.fail("weights were read"))
    settings = Settings(**CPU | choices)
    for read in (prepare.load_inputs, api.style_transfer):
        with pytest.raises(ValueError, match=r" free of "):
            read(photo, painting, settings)


def test_memory_that_runs_out_in_a_run_is_told_with_what_the_run_needs(
    photo, painting, monkeypatch
):
    def fail(*arguments, **named):
        raise MemoryError

    monkeypatch.setattr(api, "build_problem", fail)
    settings = Settings(**CPU, size=512, iterations=2, weights="random")
    with pytest.raises(MemoryError) as error:
        api.style_transfer(photo, painting, settings)
    (note,) = error.value.__notes__
    assert re.match(r"512 x 341 px with 100 pairs .* need .* lower the size to \d+ px", note)

"""The choice of tiles: none where maps fit, rows where they do not, and as asked for always."""

import re
from dataclasses import replace

import pytest
import torch

from stylebench import Interrupted, Keep, Settings, style_transfer
from stylebench.engines.tiled import Tiled
from stylebench.image.load import Picture
from stylebench.model import tiles as model_tiles
from stylebench.model.tiles import Tiling
from stylebench.transfer import plan, prepare
from stylebench.transfer.checkpoint import Checkpoint
from stylebench.transfer.inputs import Inputs, Sizes
from stylebench.transfer.memory import Memory
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.problem import build_problem
from stylebench.transfer.reuse import BoundEngine, EngineCache

from .problems import SHALLOW

GIB = 2**30
FUSED = Settings(device="cpu", precision="fp32", engine="fused", history=10)
LARGE = (4500, 6000)
QUICK = Settings(
    weights="random", size=48, iterations=4, engine="fused", precision="fp32", device="cpu",
    scales=None, **SHALLOW,
)  # fmt: skip


@pytest.fixture
def set_free(monkeypatch):
    """Call it with the GiB that shall be free."""

    def set_free(gib):
        monkeypatch.setattr(plan, "memory_of", lambda device: Memory(int(gib * GIB), 2**40))

    return set_free


def planned(settings, size=LARGE):
    height, width = size
    settings = replace(settings, size=width, scales=None)

    def sizes_at(side):
        scaled = round(side * height / width), side
        return Sizes(scaled, [scaled])

    return plan.make_plan(settings, sizes_at)


@pytest.mark.parametrize("engine", ["fused", "eager"])
def test_tiles_are_as_high_as_fits_and_none_where_maps_fit(set_free, engine):
    settings = replace(FUSED, engine=engine)
    set_free(1000)
    assert planned(settings).settings.tile == "auto"
    heights = []
    for gib in (31, 24, 17.5, 1):
        set_free(gib)
        tiling = planned(settings).phases[0].choices.tiling
        assert tiling.width is None
        heights.append(tiling.height)
    assert heights == sorted(heights, reverse=True)
    assert heights[0] > heights[-1] == 64


def test_a_size_that_users_have_is_not_cut_on_their_machines(set_free):
    set_free(6)
    assert planned(replace(FUSED, history=20), (768, 1024)).phases[0].choices.tiling is None


def test_the_choice_of_a_user_stands(set_free):
    set_free(1)
    assert planned(replace(FUSED, tile="none")).phases[0].choices.tiling is None
    set_free(1000)
    assert planned(replace(FUSED, tile=2048)).phases[0].choices.tiling == Tiling(2048, 2048)
    assert planned(replace(FUSED, tile="rows:96")).phases[0].choices.tiling == Tiling(96)


def test_a_device_whose_memory_is_unknown_has_no_tiles(monkeypatch):
    monkeypatch.setattr(plan, "memory_of", lambda device: None)
    assert planned(FUSED).phases[0].choices.tiling is None


def test_tiles_come_before_a_history_in_bf16(set_free):
    set_free(18)
    assert planned(FUSED).settings.history_dtype is None
    assert planned(replace(FUSED, tile="none")).phases[0].footprint.total > 18 * GIB


def test_what_only_tiles_can_do_is_not_refused(set_free):
    set_free(18)
    planned(FUSED).check()
    with pytest.raises(ValueError, match="6000 x 4500 px with 10 pairs of L-BFGS need"):
        planned(replace(FUSED, tile="none", history_dtype="fp32")).check()


def test_engines_of_earlier_runs_are_given_up_before_a_picture_is_cut(monkeypatch):
    cache = EngineCache()
    cache.put("key", BoundEngine(None, None, {}, 0))
    monkeypatch.setattr(prepare, "ENGINE_CACHE", cache)
    monkeypatch.setattr(prepare, "clear_cache", cache.clear)
    monkeypatch.setattr(
        plan, "memory_of", lambda device: Memory((20 if len(cache) else 1000) * GIB, 2**40)
    )
    picture = Picture("a picture", torch.zeros(1).expand(3, *LARGE))
    settings = replace(FUSED, size=LARGE[1], scales=None)
    found = prepare.planned(Inputs(picture, [picture], None), settings)
    assert found.phases[0].choices.tiling is None
    assert len(cache) == 0


@pytest.mark.parametrize("tile", ["all", "rows:", "rows:0", "rows:x", 0, -1, 1.5, True])
def test_a_tile_that_cannot_be_is_refused(tile):
    with pytest.raises(ValueError, match=re.escape(f"tile is {tile!r}: expected ")) as error:
        Settings(tile=tile)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("preset", "tile"), [("gatys-pytorch", 8), ("gatys-pytorch", "rows:8"), ("paper", "rows:8")]
)
def test_a_run_on_tiles_is_the_whole_pictures(photo, painting, monkeypatch, preset, tile):
    """The paper's network is normalized in tiles as well.

    Random weights leave channels of it hardly any activation, and scale that up, rounding and all:
    it takes bands, whose convolutions have the whole picture's bits.
    """
    monkeypatch.setattr(model_tiles, "_FEWEST", 4)
    settings = replace(QUICK, preset=preset, init="content", pooling="average")
    whole = style_transfer(photo, painting, replace(settings, tile="none"))
    assert whole.parameters["tile"] == "none"
    result = style_transfer(photo, painting, replace(settings, tile=tile))
    assert result.parameters["tile"] == tile
    assert result.history[0]["loss"] == pytest.approx(whole.history[0]["loss"], rel=1e-6)
    assert (result.rgb - whole.rgb).abs().max() < 1e-3


def test_the_engine_of_a_problem_is_cut_as_it_says(photo, painting):
    inputs = load_inputs(photo, painting, QUICK)
    problem = build_problem(inputs, replace(QUICK, tile=16))
    assert isinstance(problem.engine, Tiled)
    assert problem.engine.tiling == Tiling(16, 16)
    assert problem.description.endswith(", tile 16")
    problem = build_problem(inputs, QUICK)
    assert not isinstance(problem.engine, Tiled)
    assert "tile" not in problem.description


@pytest.mark.filterwarnings("ignore:memory may run out")  # a run of this size is all libraries
def test_a_run_that_goes_on_keeps_its_tiles_whatever_is_free(
    photo, painting, tmp_path, monkeypatch, set_free
):
    monkeypatch.setattr(model_tiles, "_FEWEST", 4)
    monkeypatch.setattr(plan, "_LOWEST_TILE", 8)
    path = tmp_path / "run.safetensors"
    set_free(0.1)
    whole = style_transfer(photo, painting, QUICK)
    assert whole.parameters["tile"] == "rows:8"

    def stop(step):
        if step.iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        style_transfer(photo, painting, QUICK, stop, keep=Keep(path, 2))
    assert Checkpoint.load(path).identity["tile"] == "rows:8"
    set_free(1000)
    resumed = style_transfer(photo, painting, QUICK, resume=path)
    assert resumed.parameters["tile"] == "rows:8"
    assert torch.equal(resumed.rgb, whole.rgb)
    with pytest.raises(ValueError, match="made with tile 'rows:8', and this run has 'none'"):
        style_transfer(photo, painting, replace(QUICK, tile="none"), resume=path)

"""Calls with the same style, size and settings take the engine of the one before, to the bit."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
import torch
from safetensors.torch import save_file

import stylebench
from stylebench.engines import ENGINES
from stylebench.transfer import inputs, plan, prepare
from stylebench.transfer.api import style_transfer
from stylebench.transfer.memory import Memory, held
from stylebench.transfer.reuse import ENGINE_CACHE, BoundEngine, EngineCache
from stylebench.transfer.settings import Settings

LAYERS = {"content_layers": ["relu2_2"], "style_layers": ["relu1_1", "conv2_1", "pool2"]}
QUICK = Settings(
    weights="random", size=40, iterations=3, scales=None, device="cpu", engine="fused",
    precision="fp32", **LAYERS,
)  # fmt: skip


@pytest.fixture
def built(monkeypatch):
    """The names of the engines that are built."""
    names = []
    for name, engine in ENGINES.items():

        def build(*arguments, engine=engine, name=name):
            names.append(name)
            return engine(*arguments)

        build.precisions = engine.precisions
        monkeypatch.setitem(ENGINES, name, build)
    return names


def run(content, style, settings=QUICK, **more):
    with warnings.catch_warnings(action="ignore"):
        return style_transfer(content, style, settings, **more)


@pytest.fixture
def other(photo):
    return photo.transpose(0)


@pytest.mark.parametrize(
    ("engine", "precision"),
    [
        ("fused", "fp32"),
        ("fused", "bf16"),
        ("reference", "fp32"),
        pytest.param("fused", "fp16", marks=pytest.mark.slow),  # slow on a CPU
        pytest.param("eager", "fp32", marks=pytest.mark.slow),
        pytest.param("eager", "bf16", marks=pytest.mark.slow),
        pytest.param("compiled", "fp32", marks=pytest.mark.slow),
    ],
)
def test_another_content_has_the_bits_of_an_engine_of_its_own(
    engine, precision, photo, other, painting, built
):
    settings = replace(QUICK, engine=engine, precision=precision)
    expected = run(other, painting, settings, reuse=False)
    run(photo, painting, settings)
    result = run(other, painting, settings)
    again = run(other, painting, settings)
    assert torch.equal(result.rgb, expected.rgb)
    assert torch.equal(again.rgb, expected.rgb)
    losses = [[row["loss"] for row in one.history] for one in (expected, result, again)]
    assert losses[0] == losses[1] == losses[2]
    # fp16's channels are scaled by the content: its engine serves that alone
    assert built == [engine] * (3 if precision == "fp16" else 2)


def test_scales_and_a_polish_have_an_engine_each_and_the_same_bits(photo, painting, built):
    settings = replace(QUICK, precision="bf16", polish=2, scales=[24])
    expected = run(photo, painting, settings, reuse=False)
    results = [run(photo, painting, settings) for _ in range(2)]
    assert all(torch.equal(result.rgb, expected.rgb) for result in results)
    assert built == ["fused"] * 6


def test_nothing_is_read_that_no_engine_is_built_of(photo, painting, monkeypatch):
    run(photo, painting)
    monkeypatch.setattr(inputs, "load_weights", lambda source: pytest.fail("weights were read"))
    run(photo, painting)


@pytest.mark.parametrize(
    "change",
    [
        {"style_weights": [2, 1]}, {"size": 44}, {"content_weight": 3.0}, {"style_weight": 3.0},
        {"tv_weight": 1.0}, {"pooling": "average"}, {"normalize": True}, {"weights": "random:1"},
        {"precision": "fp32-direct"}, {"engine": "eager"}, {"style_scale": 0.8},
        {"style_layers": ["relu1_1"]},
    ],
)  # fmt: skip
def test_whatever_an_engine_depends_on_has_one_of_its_own(change, photo, painting, built):
    styles = [painting, painting.rotate(90)]
    changed = replace(QUICK, **change)
    expected = run(photo, styles, changed, reuse=False)
    run(photo, styles)
    result = run(photo, styles, changed)
    assert len(built) == 3
    assert torch.equal(result.rgb, expected.rgb)


@pytest.mark.parametrize("change", [{"iterations": 4}, {"init": "noise"}, {"history": 3}])
def test_what_no_engine_depends_on_takes_the_same(change, photo, painting, built):
    expected = run(photo, painting, replace(QUICK, **change), reuse=False)
    run(photo, painting)
    assert torch.equal(run(photo, painting, replace(QUICK, **change)).rgb, expected.rgb)
    assert len(built) == 2


def test_another_style_has_an_engine_of_its_own(photo, painting, built):
    run(photo, painting)
    run(photo, painting.rotate(180))
    assert len(built) == 2


def test_a_normalized_network_serves_the_content_that_it_was_normalized_by(
    photo, other, painting, built
):
    settings = replace(QUICK, normalize=True)
    expected = run(other, painting, settings, reuse=False)
    run(photo, painting, settings)
    assert torch.equal(run(other, painting, settings).rgb, expected.rgb)
    assert len(built) == 3


def test_another_number_of_threads_has_an_engine_of_its_own(photo, painting, built):
    threads = torch.get_num_threads()
    run(photo, painting)
    try:
        torch.set_num_threads(threads + 1)
        run(photo, painting)
    finally:
        torch.set_num_threads(threads)
    assert len(built) == 2


def test_a_weights_file_that_changed_is_read_anew(photo, painting, weights, tmp_path, built):
    file = tmp_path / "weights.safetensors"
    kinds = ("weight", "bias")
    state = {
        f"{name}.{kind}": tensor.clone()
        for name, pair in weights.layers.items()
        for kind, tensor in zip(kinds, pair, strict=True)
    }
    save_file(state, file)
    settings = replace(QUICK, weights=str(file))
    first = run(photo, painting, settings)
    run(photo, painting, settings)
    assert len(built) == 1
    state["conv1_1.weight"] *= 2
    save_file(state, file)
    assert not torch.equal(run(photo, painting, settings).rgb, first.rgb)
    assert len(built) == 2


def test_weights_in_tensors_are_never_taken_for_those_of_a_call_before(
    photo, painting, weights, built
):
    for _ in range(2):
        run(photo, painting, replace(QUICK, weights=weights))
    assert len(built) == 2


def test_a_run_that_ends_early_leaves_no_engine(photo, painting):
    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(stylebench.Interrupted):
        run(photo, painting, callback=stop)
    assert len(ENGINE_CACHE) == 0


def test_clear_cache_forgets_all_engines(photo, painting, built):
    run(photo, painting)
    assert len(ENGINE_CACHE) == 1
    stylebench.clear_cache()
    assert len(ENGINE_CACHE) == 0
    run(photo, painting)
    assert len(built) == 2


def test_a_run_that_may_not_reuse_neither_takes_nor_leaves_an_engine(photo, painting, built):
    run(photo, painting)
    run(photo, painting, reuse=False)
    assert len(built) == 2
    stylebench.clear_cache()
    run(photo, painting, reuse=False)
    assert len(ENGINE_CACHE) == 0


def bound(nbytes=1):
    return BoundEngine(None, None, {}, nbytes)


def test_the_engine_that_was_used_the_longest_ago_goes_first():
    cache = EngineCache(most=2, most_bytes=100)
    first, second, third = bound(), bound(), bound()
    cache.put("first", first)
    cache.put("second", second)
    cache.put("first", cache.take("first"))
    cache.put("third", third)
    assert cache.take("second") is None
    assert cache.take("first") is first
    assert cache.take("third") is third


def test_engines_are_bounded_by_their_bytes_and_too_large_a_one_is_not_kept():
    cache = EngineCache(most=9, most_bytes=100)
    for name in "abc":
        cache.put(name, bound(40))
    assert [cache.take(name) is not None for name in "abc"] == [False, True, True]
    cache.put("large", bound(101))
    assert len(cache) == 0


def test_an_engine_that_was_taken_is_nobody_elses():
    cache = EngineCache()
    cache.put("key", bound())
    assert cache.take("key") is not None
    assert cache.take("key") is None


def test_two_threads_at_once_have_the_results_that_each_has_alone(photo, other, painting, built):
    expected = {id(one): run(one, painting, reuse=False).rgb for one in (photo, other)}
    run(photo, painting)
    barrier = Barrier(2)

    def call(content):
        barrier.wait()
        return [torch.equal(run(content, painting).rgb, expected[id(content)]) for _ in range(3)]

    with ThreadPoolExecutor(2) as pool:
        assert all(map(all, pool.map(call, (photo, other))))
    assert len(built) < 2 + 1 + 6  # some were reused


def test_engines_are_given_up_where_a_run_does_not_fit_beside_them(photo, painting, monkeypatch):
    run(photo, painting)
    pictures = inputs.load_pictures(photo, painting, QUICK)
    need = prepare.planned(pictures, QUICK).needed

    def memory_of(device):
        return Memory(need - 1 if len(ENGINE_CACHE) else need, 4 * need)

    monkeypatch.setattr(plan, "memory_of", memory_of)
    fitting = prepare.planned(pictures, QUICK)
    assert fitting.fits
    assert fitting.settings.history_dtype is None
    assert len(ENGINE_CACHE) == 0


@pytest.mark.slow
def test_memory_does_not_grow_over_fifty_calls(photo, painting):
    pairs = [(photo.rotate(7 * index), painting.rotate(7 * index)) for index in range(50)]
    cpu = torch.device("cpu")
    for content, style in pairs[:10]:
        run(content, style)
    before = held(cpu)
    for content, style in pairs:
        run(content, style)
    assert held(cpu) - before < 24 * 2**20

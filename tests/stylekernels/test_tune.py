import json
import math
import os
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from stylekernels.runtime import config
from stylekernels.runtime.config import BackwardConfig, Gpu, GramConfig
from stylekernels.tuning import aot, tune

H200 = Gpu("NVIDIA H200", 90, 132, 227 << 10)
START = GramConfig.default(torch.bfloat16, 64, 512 * 512, H200)


def around(center):
    return tune.neighbors(center, H200, 64)


def test_a_neighbor_differs_in_one_field():
    for other in around(START):
        changed = [k for k, v in vars(other).items() if v != getattr(START, k)]
        assert len(changed) == 1


def test_split_factors_are_among_what_is_tuned():
    splits = {other.split for other in around(START)}
    assert len(splits) > 4
    assert min(splits) < START.split < max(splits)


def test_the_image_gradient_is_tuned_at_the_first_layer_alone():
    for dtype, more in ((torch.float16, ["tap_dgrad"]), (torch.float32, [])):
        kinds = [kind.kernel for kind in tune.tuned(64, dtype)]
        assert kinds == [*KERNELS, "dgrad", *more]
        assert [kind.kernel for kind in tune.tuned(128, dtype)] == KERNELS
    start = config.DgradConfig.default(torch.float16, 64, 512**2, H200)
    tried = list(tune.neighbors(start, H200, 64))
    assert {other.block_w for other in tried} == {32, 64, 128}
    assert len({other.rows for other in tried}) > 3


def test_numbers_of_programs_that_keep_s_are_among_what_is_tuned():
    start = BackwardConfig.default(torch.float16, 128, 256 * 256, H200)
    tried = {other.programs for other in tune.neighbors(start, H200, 128)}
    assert {0, 132, 264} <= tried


def test_descent_finds_the_fastest_and_measures_nothing_twice():
    measured = []

    def cost(candidate):
        measured.append(candidate)
        return 1.0 + abs(math.log2(candidate.block_m / 32)) + abs(candidate.num_stages - 5)

    best, seconds = tune.descend(START, around, cost)
    assert (best.block_m, best.num_stages) == (32, 5)
    assert seconds == 1.0
    assert len(measured) == len(set(measured))


def test_descent_keeps_the_default_where_nothing_is_one_percent_faster():
    def cost(candidate):
        return 1.0 if candidate == START else 0.995

    assert tune.descend(START, around, cost) == (START, 1.0)


def test_descent_never_takes_what_cannot_be_used():
    best, _ = tune.descend(START, around, lambda c: 1.0 if c.num_warps == 4 else math.inf)
    assert best.num_warps == 4
    with pytest.raises(RuntimeError, match="default configuration fails"):
        tune.descend(START, around, lambda _: math.inf)


def test_a_written_row_replaces_the_one_of_its_size_and_can_be_selected(tmp_path, monkeypatch):
    path = tmp_path / config.file_name(H200.name)
    changed = replace(START, split=77)
    rows = [config.as_row(blocks, torch.bfloat16, 64, 4096) for blocks in (START, changed)]
    for row in rows:
        tune.write(path, H200, row)
    content = json.loads(path.read_text())
    assert Gpu(**content["gpu"]) == H200
    assert len(content["rows"]) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["nvidia_h200.json"]
    monkeypatch.setattr(config, "measured", lambda _: config.parse(path.read_text(), path.name))
    assert config.select(GramConfig, torch.bfloat16, 64, 5000, H200) == changed


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to tune for")
def test_tuning_without_a_gpu_says_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["stylekernels.tune"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("stylekernels.tune", run_name="__main__")
    assert "no GPU here" in capsys.readouterr().err


def test_a_shape_is_measured_only_where_it_is_right(monkeypatch, device):
    """Runs on the interpreter and on GPUs: times are faked, parity is not."""
    if device.type == "cpu" and not tune_can_run():
        pytest.skip("plain torch has nothing to tune")
    monkeypatch.setattr(tune, "_milliseconds", lambda run: run() or 1.0)
    monkeypatch.setattr(tune, "CHOICES", {"block_m": (32, 64), "num_warps": (4, 8)})
    shape = tune.Shape(torch.float32, 16, 8, device)
    gpu = config.gpu_of(device)
    rows = []
    assert tune.tune_shape(shape, replace(gpu, multiprocessors=1), {}, rows.append)
    assert [row["kernel"] for row in rows] == ["gram", "finish", "backward"]
    shape.exact_s = shape.exact_s * 1.001
    assert shape.forward(START, config.FinishConfig(4, 2, 64, 4)) == math.inf
    shape.s.zero_()  # as a wrong candidate may leave it
    shape.allowed.clear()
    assert shape.backward(config.BackwardConfig.default(torch.float32, 16, 64, gpu)) == 1.0
    few = config.DgradConfig.default(torch.float32, 16, 64, gpu)
    assert shape.dgrad(few) == 1.0
    assert shape.allowed["dgrad"] < 1e-5
    half = tune.Shape(torch.float16, 16, 8, device)
    assert half.tap_dgrad(config.TapDgradConfig.default(torch.float16, 16, 64, gpu)) == 1.0
    assert half.allowed["tap_dgrad"] < 2e-3
    shape.exact_image_gradient = shape.exact_image_gradient * 1.001
    assert shape.dgrad(replace(few, rows=3)) == math.inf
    assert shape.allowed["backward"] < 1e-5


def tune_can_run():
    triton = pytest.importorskip("triton")
    return triton.knobs.runtime.interpret


def test_descent_measures_only_what_can_be_used():
    asked = []

    def usable(candidates):
        asked.extend(candidates)
        return [candidate for candidate in candidates if candidate.num_warps == 4]

    def cost(candidate):
        assert candidate.num_warps == 4
        return float(candidate.block_m)

    best, _ = tune.descend(START, around, cost, usable=usable)
    assert best.block_m == 16
    assert len(asked) == len(set(asked))


class OutOfResources(Exception):
    """As Triton's, which is no RuntimeError."""


@pytest.mark.parametrize("fault", [OutOfResources("shared memory"), SyntaxError("of a compiler")])
def test_a_candidate_may_fail_in_any_way(monkeypatch, capsys, fault):
    def run(launches):
        raise fault

    monkeypatch.setattr("stylekernels.runtime.launch.run_all", run)
    shape = object.__new__(tune.Shape)
    assert shape._cost("forward", [], lambda: 0.0) == math.inf
    assert f"left out: {type(fault).__name__}: {fault}" in capsys.readouterr().err


class Layer:
    """A layer without a GPU, whose candidates differ in their warps alone; records its calls."""

    calls: ClassVar[list] = []

    def __init__(self, dtype, channels, size, device):
        self.dtype, self.channels, self.size = dtype, channels, size
        self.act("make")

    def forward(self, gram, finish):
        self.act("forward")
        return float(gram.num_warps + finish.num_warps)

    def backward(self, blocks):
        self.act("backward")
        return float(blocks.num_warps)

    def dgrad(self, blocks):
        self.act("dgrad")
        return float(blocks.num_warps)

    def tap_dgrad(self, blocks):
        self.act("tap_dgrad")
        return float(blocks.num_warps)

    def act(self, what):
        self.calls.append((self.channels, self.size, what))


class Compilers:
    """In their place: compiles nothing, and fails for the candidates that ``dies`` says."""

    dies = staticmethod(lambda candidate: False)

    def __init__(self, compile_one, jobs):
        assert jobs >= 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def faults(self, candidates):
        return ["its compiler died" if self.dies(c) else "" for c in candidates]


@pytest.fixture
def tuner(monkeypatch, tmp_path):
    """Runs the tuner for an H200 that is not there; returns its code and the rows in its file."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(tune, "gpu_of", lambda device: H200)
    monkeypatch.setattr(tune, "Shape", Layer)
    monkeypatch.setattr(tune, "Compilers", Compilers)
    monkeypatch.setattr(tune, "CHOICES", {"num_warps": (2, 4, 8)})
    monkeypatch.setattr(Layer, "calls", [])
    path = tmp_path / "nvidia_h200.json"

    def code():
        return tune.main(["--size", "32", "--dtype", "float16", "--output", str(tmp_path)])

    def run():
        return code(), rows()

    def rows():
        return json.loads(path.read_text())["rows"] if path.exists() else []

    run.rows, run.code = rows, code
    return run


def test_a_file_that_is_no_table_of_configurations_is_one_line(tuner, tmp_path, capsys):
    (tmp_path / "nvidia_h200.json").write_text("{")
    assert tuner.code() == 2
    line = capsys.readouterr().err
    assert line.startswith("stylekernels.tune: error: nvidia_h200.json is not")
    assert line.count("\n") == 1
    assert (tmp_path / "nvidia_h200.json").read_text() == "{"


def test_a_full_disk_is_one_line_and_keeps_the_rows_before(tuner, monkeypatch, capsys):
    def full(path, gpu, row, write=tune.write):
        if len(tuner.rows()) == 2:
            raise OSError(28, "No space left on device")
        write(path, gpu, row)

    monkeypatch.setattr(tune, "write", full)
    assert tuner.code() == 2
    assert "stylekernels.tune: error: [Errno 28] No space left" in capsys.readouterr().err
    assert len(tuner.rows()) == 2


@pytest.mark.parametrize("wrong", [["--jobs", "0"], ["--size", "8"], ["--size", "-1"]])
def test_numbers_that_cannot_be_are_refused(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        tune.main(wrong)
    assert "--jobs must be at least 1, and --size at least 16" in capsys.readouterr().err


def test_tuners_at_once_lose_no_row(tmp_path):
    """Each reads the file, adds its row and writes it; without turns rows of others are lost."""
    path = tmp_path / config.file_name(H200.name)

    def add(number):
        tune.write(path, H200, config.as_row(START, torch.bfloat16, 64, number + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    rows = json.loads(path.read_text())["rows"]
    assert sorted(row["positions"] for row in rows) == list(range(1, 41))


LAYERS = [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)]
KERNELS = ["gram", "finish", "backward"]
OF_IMAGE = ["dgrad", "tap_dgrad"]
ROWS = [(c, s * s, kernel) for c, s in LAYERS for kernel in KERNELS]
ROWS += [(64, 1024, kernel) for kernel in OF_IMAGE]


def test_what_is_tuned_is_not_tuned_again_by_the_same_versions(tuner, monkeypatch):
    code, rows = tuner()
    assert code == 0
    assert len(rows) == len(ROWS)
    assert {row["num_warps"] for row in rows} == {2}
    Layer.calls.clear()
    assert tuner() == (0, rows)
    assert Layer.calls == []
    monkeypatch.setattr(tune, "version", lambda name: "9.9")
    assert tuner()[0] == 0
    assert len({(channels, size) for channels, size, _ in Layer.calls}) == len(LAYERS)


@pytest.mark.parametrize("kept", range(6))
def test_a_run_that_is_cut_short_keeps_every_kernel_and_goes_on_from_there(
    tuner, monkeypatch, kept
):
    def stop(path, gpu, row, write=tune.write):
        if len(tuner.rows()) == kept:
            raise KeyboardInterrupt
        write(path, gpu, row)

    with monkeypatch.context() as patch:
        patch.setattr(tune, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            tuner()
    before = tuner.rows()
    assert sorted(row["kernel"] for row in before) == sorted([*KERNELS, *OF_IMAGE, "gram"][:kept])
    Layer.calls.clear()
    code, rows = tuner()
    assert code == 0
    assert len(rows) == len(ROWS)
    assert all(row in rows for row in before)
    assert ((64, 32, "make") in Layer.calls) is (kept < 5)
    assert ((64, 32, "forward") in Layer.calls) is (kept < 2)


@pytest.mark.parametrize("fault", [OutOfResources("memory"), RuntimeError("launch failure")])
def test_one_kernels_fault_is_not_the_others(tuner, monkeypatch, capsys, fault):
    def act(layer, what):
        if (layer.channels, what) in {(256, "make"), (128, "forward"), (64, "backward")}:
            raise fault

    monkeypatch.setattr(Layer, "act", act)
    code, rows = tuner()
    assert code == 1
    found = {(row["channels"], row["positions"], row["kernel"]) for row in rows}
    missing = {(256, 64, kernel) for kernel in KERNELS}
    missing |= {(128, 256, "gram"), (128, 256, "finish"), (64, 1024, "backward")}
    assert found == set(ROWS) - missing
    assert capsys.readouterr().err.count(str(fault)) == 4


def test_a_candidate_whose_compiler_dies_is_not_measured(tuner, monkeypatch, capsys):
    dies = staticmethod(lambda candidate: candidate.blocks[-1].num_warps == 2)
    monkeypatch.setattr(Compilers, "dies", dies)
    code, rows = tuner()
    assert code == 0
    warps = {row["kernel"]: row["num_warps"] for row in rows}
    assert warps == {"gram": 2, "finish": 4, "backward": 4, **dict.fromkeys(OF_IMAGE, 4)}
    assert capsys.readouterr().err.count("left out: its compiler died") >= len(LAYERS)


@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="the interpreter does not compile")
def test_candidates_are_compiled_as_they_will_be_launched(monkeypatch):
    """Not a copy of a launch that the cache on the disk would not know."""
    pytest.importorskip("triton")
    compiled = []
    monkeypatch.setattr(aot, "built", compiled.append)
    layer = (torch.float16, 64, 32)
    finish = config.FinishConfig.default(torch.float16, 64, 32**2, H200)
    tune.compile_candidate(tune.Candidate(layer, H200, "forward", (START, finish)))
    back = config.BackwardConfig.default(torch.float16, 64, 32**2, H200)
    tune.compile_candidate(tune.Candidate(layer, H200, "backward", (replace(back, block_m=32),)))
    assert [launch.constants["BLOCK_M"] for launch in compiled[::2]] == [START.block_m, 32]
    few = config.DgradConfig.default(torch.float32, 64, 32**2, H200)
    layer = (torch.float32, 64, 32)
    tune.compile_candidate(tune.Candidate(layer, H200, "dgrad", (replace(few, rows=8),)))
    assert compiled[-1].constants.items() >= {"ROWS": 8, "PRECISION": "ieee"}.items()
    assert all(value.is_meta for value in compiled[0].arguments.values() if is_tensor(value))


def is_tensor(value):
    return isinstance(value, torch.Tensor)

import json
import math
import runpy
import sys
from dataclasses import replace

import pytest
import torch

from stylekernels.runtime import config
from stylekernels.runtime.config import Gpu, GramConfig
from stylekernels.tuning import tune

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
    tune.write(path, H200, rows[:1])
    tune.write(path, H200, rows[1:])
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
    rows = tune.tune_shape(shape, replace(gpu, multiprocessors=1))
    assert [row["kernel"] for row in rows] == ["gram", "finish", "backward"]
    shape.exact_s = shape.exact_s * 1.001
    assert shape.forward(START, config.FinishConfig(4, 2, 64, 4)) == math.inf


def tune_can_run():
    triton = pytest.importorskip("triton")
    return triton.knobs.runtime.interpret

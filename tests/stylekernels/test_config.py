import json
import os
from math import ceil, comb

import pytest
import torch

from stylekernels.runtime import config
from stylekernels.runtime.config import BackwardConfig, Gpu, GramConfig, select
from stylekernels.tuning.aot import GPUS
from stylekernels.tuning.shapes import VGG

H200 = Gpu("NVIDIA H200", 90, 132, 227 << 10)


def rows(*positions):
    measured = GramConfig(num_warps=8, num_stages=2, block_m=32, block_c=64, split=0)
    return tuple(
        config.as_row(measured, torch.bfloat16, 64, m) | {"split": m // 1000} for m in positions
    )


def test_the_measured_row_nearest_in_size_is_taken(monkeypatch):
    monkeypatch.setattr(config, "measured", lambda _: rows(4_000, 64_000))
    near = [select(GramConfig, torch.bfloat16, 64, m, H200).split for m in (10, 15_000, 17_000)]
    assert near == [4, 4, 64]


def test_rows_of_another_kernel_dtype_or_width_are_not_taken(monkeypatch):
    monkeypatch.setattr(config, "measured", lambda _: rows(4_000))
    default = GramConfig.default(torch.float32, 64, 4_000, H200)
    assert select(GramConfig, torch.float32, 64, 4_000, H200) == default
    assert select(GramConfig, torch.bfloat16, 128, 4_000, H200).block_m != 32
    assert isinstance(select(BackwardConfig, torch.bfloat16, 64, 4_000, H200), BackwardConfig)


def test_a_gpu_without_a_file_gets_the_default():
    unknown = Gpu("Some GPU of 2040", 170, 300, 512 << 10)
    assert config.measured(unknown.name) == ()
    found = select(GramConfig, torch.bfloat16, 64, 512 * 512, unknown)
    assert found == GramConfig.default(torch.bfloat16, 64, 512 * 512, unknown)


@pytest.mark.parametrize("positions", [1, 100, 512 * 512, 8192 * 8192])
@pytest.mark.parametrize("channels", [1, 3, 64, 100, 512, 2048])
def test_a_default_is_sane_at_every_size(channels, positions):
    found = GramConfig.default(torch.float32, channels, positions, H200)
    assert found.block_c in {16, 32, 64, 128}
    assert 1 <= found.split <= max(1, positions)
    assert found.split * found.block_c**2 * 4 <= 64 << 20  # the workspace stays small


@pytest.mark.parametrize("size", [256, 512, 1024, 2048])
@pytest.mark.parametrize(("channels", "shrunk"), VGG)
def test_partial_sums_that_would_be_a_third_of_the_features_come_once_a_multiprocessor(
    channels, shrunk, size
):
    positions = (size // shrunk) ** 2
    found = GramConfig.default(torch.float16, channels, positions, H200)
    tiles = comb(ceil(channels / found.block_c) + 1, 2)
    programs, sums = found.split * tiles, 4 * found.split * tiles * found.block_c**2
    assert programs < H200.multiprocessors + tiles or 3 * sums < 2.1 * positions * channels


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: f"arch_{gpu.arch}")
def test_one_load_feeds_both_operands_where_tensor_cores_read_shared_memory(gpu):
    found = GramConfig.default(torch.float16, 128, 512 * 512, gpu)
    assert found.one_load == (gpu.arch in {90, 100, 942})


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: f"arch_{gpu.arch}")
@pytest.mark.parametrize("channels", [3, 64, 128, 256, 512])
def test_s_is_kept_on_the_chip_where_it_fits_beside_two_blocks(gpu, channels):
    found = BackwardConfig.default(torch.float16, channels, 512 * 512, gpu)
    kept = 2 * found.block_n * found.block_k
    block = 2 * found.block_m * (found.block_k + found.block_n)
    most = {64 << 10: 3, 99 << 10: 128, 163 << 10: 128, 227 << 10: 256}[gpu.shared_memory]
    assert (found.programs > 0) == (channels <= most)
    if found.programs:
        assert found.block_k >= channels
        assert kept + 2 * block <= gpu.shared_memory


def test_a_file_is_named_after_the_gpu_in_letters_that_any_system_takes():
    assert config.file_name("NVIDIA GeForce RTX 4090") == "nvidia_geforce_rtx_4090.json"
    assert config.file_name("Tesla V100-SXM2/32GB") == "tesla_v100_sxm2_32gb.json"


def test_a_broken_file_is_named_with_its_fault():
    with pytest.raises(ValueError, match=r"gpu\.json is not"):
        config.parse("{", "gpu.json")
    with pytest.raises(ValueError, match=r"gpu\.json: kernel must be one of .*'warp'"):
        config.parse(json.dumps({"rows": [{"kernel": "warp"}]}), "gpu.json")
    row = {name: value for name, value in rows(100)[0].items() if name != "split"}
    with pytest.raises(ValueError, match=r"gpu\.json: \['split'\] missing"):
        config.parse(json.dumps({"rows": [row]}), "gpu.json")


ROW = rows(100)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is not"),
        ("3", "is not"),
        ("null", "is not"),
        ('"rows"', "is not"),
        ("{}", "is not"),
        ("", "is not"),
        ("[" * 100_000, "is not"),
        ("1" * 5000, "is not"),
        ('{"rows": null}', "its rows are None"),
        ('{"rows": {"kernel": "gram"}}', "its rows are {'kernel': 'gram'}"),
        ('{"rows": [3]}', "kernel must be one of .*, got 3"),
        ('{"rows": [[]]}', "kernel must be one of"),
        ('{"rows": [{"kernel": []}]}', "kernel must be one of"),
        ('{"rows": [{"kernel": "gram"}]}', "missing in"),
        *(
            (json.dumps({"rows": [{**ROW, name: value}]}), f"{name} must be {expected}")
            for name, value, expected in [
                ("dtype", 3, "a name"),
                ("channels", 0, "a whole number of 1 or more, got 0"),
                ("positions", -1, "a whole number of 1 or more, got -1"),
                ("positions", 0, "a whole number"),
                ("positions", 10**30, "a whole number"),
                ("positions", 1.5, "a whole number"),
                ("positions", None, "a whole number"),
                ("num_warps", 3, "a power of two, got 3"),
                ("num_warps", True, "a whole number"),
                ("block_m", "32", "a whole number of 1 or more, got '32'"),
                ("split", -1, "a whole number of 0 or more"),
                ("one_load", 1, "true or false, got 1"),
            ]
        ),
    ],
)
def test_a_file_of_another_form_is_one_line(text, message):
    with pytest.raises(ValueError, match=message) as refused:
        config.parse(text, "gpu.json")
    assert str(refused.value).startswith("gpu.json")
    assert len(str(refused.value)) < 800


def test_a_file_of_ones_own_that_cannot_be_read_is_named_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(config.OWN_FOLDER, str(tmp_path))
    path = tmp_path / config.file_name("X")
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=f"^{path} is not .*can't decode"):
        config.measured.__wrapped__("X")
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ValueError, match=f"^{path} is not .*more than 16777216 bytes"):
        config.measured.__wrapped__("X")
    path.unlink()
    os.mkfifo(path)
    assert config.measured.__wrapped__("X") == ()


def test_rows_survive_writing_and_reading():
    text = json.dumps({"rows": rows(100, 200)})
    assert config.parse(text, "gpu.json") == rows(100, 200)


def test_a_folder_of_ones_own_goes_before_what_is_shipped(tmp_path, monkeypatch):
    name = "Some GPU of 2041"
    text = json.dumps({"rows": rows(100)})
    (tmp_path / config.file_name(name)).write_text(text)
    monkeypatch.setenv(config.OWN_FOLDER, str(tmp_path / "elsewhere"))
    assert config.measured.__wrapped__(name) == ()
    monkeypatch.setenv(config.OWN_FOLDER, str(tmp_path))
    assert config.measured.__wrapped__(name) == rows(100)


def test_every_shipped_file_parses():
    for gpu in config.shipped_gpus():
        assert config.measured(gpu.name)

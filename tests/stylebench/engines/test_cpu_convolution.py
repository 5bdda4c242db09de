"""The choice among a CPU's convolutions: measured once, checked first, kept for the next start."""

import json

import pytest
import torch
import torch.nn.functional as F

from stylebench.engines.fused import cpu_convolution
from stylebench.engines.fused.algorithm import Algorithm
from stylebench.engines.fused.choices import choices_so_far, choose_as, forget
from stylebench.engines.fused.convolution import Convolution
from stylebench.engines.fused.cpu_convolution import choose
from stylekernels.ops.conv.op import Workspace, supports

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available() or not supports(torch.empty(16, 16, 3, 3)),
    reason="there is one algorithm",
)
SIZE = (24, 20)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("STYLEBENCH_CACHE", str(tmp_path))
    forget()
    yield tmp_path / "convolutions.json"
    forget()


def layer():
    generator = torch.Generator().manual_seed(2)
    x, weight, bias = (
        torch.randn(shape, generator=generator) for shape in ((1, 16, *SIZE), (32, 16, 3, 3), (32,))
    )
    return x.contiguous(memory_format=torch.channels_last), weight, bias


@pytest.fixture
def slow(monkeypatch):
    """slow(algorithm) -> the same results a second later, by a clock that only that moves."""
    now = [0.0]
    monkeypatch.setattr(cpu_convolution, "perf_counter", lambda: now[0])

    def make(algorithm):
        def slowed(*arguments):
            now[0] += 1.0
            return algorithm(*arguments)

        return Algorithm(slowed)

    return make


@pytest.mark.parametrize(("slower", "faster"), [("direct", "winograd"), ("winograd", "direct")])
def test_the_faster_one_is_taken_and_kept(cache, monkeypatch, slow, slower, faster):
    name = {"direct": "_direct", "winograd": "_Winograd"}[slower]
    maker = getattr(cpu_convolution, name)
    monkeypatch.setattr(cpu_convolution, name, lambda *given: slow(maker(*given)))
    x, weight, bias = layer()
    name, algorithm = choose(weight, bias, SIZE, Workspace())
    assert name == faster
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1).relu()
    torch.testing.assert_close(algorithm(x, False, False, True).double(), exact, atol=1e-4, rtol=0)
    (choices,) = json.loads(cache.read_text()).values()
    assert set(choices.values()) == {faster}
    forget()  # as a new process
    monkeypatch.setattr(cpu_convolution, "_fastest", None)  # nothing is measured again
    assert choose(weight, bias, SIZE, Workspace())[0] == faster


@pytest.mark.parametrize("fault", ["wrong", "hides nan", "one element"])
def test_a_wrong_algorithm_is_never_the_faster(cache, monkeypatch, slow, fault):
    maker, direct = cpu_convolution._Winograd, cpu_convolution._direct

    def broken(*given):
        algorithm = maker(*given)

        def run(*arguments):
            y = algorithm(*arguments)
            if fault == "one element":
                y[0, 0, 0, 0] += 1.0
                return y
            return 1.001 * y if fault == "wrong" else y.nan_to_num(0.0)

        return Algorithm(run)

    monkeypatch.setattr(cpu_convolution, "_Winograd", broken)
    monkeypatch.setattr(cpu_convolution, "_direct", lambda *given: slow(direct(*given)))
    _, weight, bias = layer()
    assert choose(weight, bias, SIZE, Workspace())[0] == "direct"


def test_other_kernels_are_measured_anew(cache, monkeypatch):
    _, weight, bias = layer()
    for digest in ("a" * 64, "a" * 64, "b" * 64):
        monkeypatch.setattr("stylekernels.native.compile.sources", lambda digest=digest: digest)
        choose(weight, bias, SIZE, Workspace())
    assert len(json.loads(cache.read_text())) == 2


BROKEN = ["", "[]", "{", '{"a": 3}', '{"a": {"b": [1]}}', "null", 100_000 * "["]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_measured_anew(cache, content):
    cache.write_text(content)
    _, weight, bias = layer()
    name, _ = choose(weight, bias, SIZE, Workspace())
    kept = json.loads(cache.read_text())
    assert list(kept[cpu_convolution._machine()].values()) == [name]


def test_a_folder_that_cannot_be_written_changes_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STYLEBENCH_CACHE", str(tmp_path / "file"))
    forget()
    _, weight, bias = layer()
    with pytest.warns(UserWarning, match=r"convolutions.json cannot be written: every start"):
        assert choose(weight, bias, SIZE, Workspace())[0] in ("direct", "winograd")
    forget()


def test_other_threads_have_choices_of_their_own(cache):
    _, weight, bias = layer()
    threads = torch.get_num_threads()
    choose(weight, bias, SIZE, Workspace())
    torch.set_num_threads(threads + 1)
    try:
        choose(weight, bias, SIZE, Workspace())
    finally:
        torch.set_num_threads(threads)
    assert [len(layers) for layers in choices_so_far().values()] == [1, 1]


def test_what_another_process_chose_meanwhile_is_taken_and_stays(cache, monkeypatch):
    _, weight, bias = layer()

    def measured_as_another_writes(*given):
        others = {cpu_convolution._machine(): {cpu_convolution._layer(weight, SIZE): "direct"}}
        cache.write_text(json.dumps({"another machine": {"a": "b"}, **others}))
        return "winograd"

    monkeypatch.setattr(cpu_convolution, "_fastest", measured_as_another_writes)
    assert choose(weight, bias, SIZE, Workspace())[0] == "direct"
    assert json.loads(cache.read_text())["another machine"] == {"a": "b"}


@pytest.mark.parametrize("name", ["direct", "winograd"])
def test_the_choices_of_a_checkpoint_are_taken(cache, monkeypatch, name):
    _, weight, bias = layer()
    monkeypatch.setattr(cpu_convolution, "_fastest", None)  # nothing is measured
    machine, kind = cpu_convolution._machine(), cpu_convolution._layer(weight, SIZE)
    choose_as({machine: {kind: name}, "another machine": {kind: "other"}})
    assert choose(weight, bias, SIZE, Workspace())[0] == name
    assert choices_so_far()[machine] == {kind: name}


def test_without_a_workspace_and_in_other_dtypes_it_is_direct(cache):
    _, weight, bias = layer()
    assert choose(weight, bias, SIZE, None)[0] == "direct"
    assert choose(weight.double(), bias.double(), SIZE, Workspace())[0] == "plain"
    assert not cache.exists()


def test_a_convolution_says_what_it_chose(cache):
    _, weight, bias = layer()
    chosen = Convolution(weight, bias, SIZE, Workspace()).chosen
    assert set(chosen) == {"forward", "backward"}
    assert set(chosen.values()) <= {"direct", "winograd"}
    assert Convolution(weight, bias, SIZE).chosen == dict.fromkeys(chosen, "direct")

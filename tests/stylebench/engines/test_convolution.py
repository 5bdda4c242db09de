"""The frozen convolution against autograd's, and the choice among its algorithms."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from stylebench.engines.fused import conv_autotune, convolution
from stylebench.engines.fused.choices import (
    choices_so_far,
    choose_as,
    choose_once,
    choosing_as,
    forget,
)
from stylebench.engines.fused.conv_algorithms import (
    OF_IMAGE,
    backward_algorithms,
    deterministic,
    exact_backward,
    exact_forward,
    forward_algorithms,
)
from stylebench.engines.fused.conv_autotune import select_fastest
from stylebench.engines.fused.convolution import Convolution, pad_channels
from stylebench.model.precision import PRECISIONS, arithmetic

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = [(3, 64, 17, 22), (64, 64, 16, 16), (5, 7, 9, 4)]


def layer(inputs, outputs, height, width, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    drawn = [(1, inputs, height, width), (outputs, inputs, 3, 3), (outputs,)]
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in drawn)
    x = x.contiguous(memory_format=torch.channels_last)
    return [t.to(DEVICE, dtype) for t in (x, weight, bias)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "allowed"),
    [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)],
    ids=str,
)
def test_it_is_the_convolution_and_its_gradient(shape, dtype, allowed):
    x, weight, bias = layer(*shape, dtype)
    convolution = Convolution(weight, bias, shape[2:])
    wide = x.double().requires_grad_()
    y = F.conv2d(wide, weight.double(), bias.double(), padding=1)
    above = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, wide, above.to(dtype).double())
    above = above.to(dtype).contiguous(memory_format=torch.channels_last)
    for result, exact in (
        (convolution(x), y),
        (convolution.relu(x), y.relu()),
        (convolution.backward(above), gradient),
    ):
        assert result.dtype == dtype
        assert result.shape == exact.shape
        assert (result.double() - exact).norm() <= allowed * exact.norm()


def first_that_runs(algorithms, _exact, x):
    """In place of ``select_fastest``, which needs a GPU's clock."""
    for name, run in algorithms.items():
        with suppress(RuntimeError):  # cuDNN's own is for its devices
            run(x)
            return name
    return pytest.fail(f"none of {list(algorithms)} runs here")


def with_passes_of_a_gpu(weight, bias, size):
    convolution = Convolution(weight, bias, size)
    flipped = weight.flip(2, 3).transpose(0, 1)
    convolution._forward, convolution._backward = convolution._on_cuda(weight, bias, flipped, size)
    return convolution


@pytest.mark.parametrize(("above", "below"), [(1, 1), (1, 0), (0, 1)])
def test_rows_with_neighbors_are_those_of_the_whole_map_on_a_gpu_too(above, below, monkeypatch):
    monkeypatch.setattr(convolution, "select_fastest", first_that_runs)
    x, weight, bias = layer(4, 8, 12, 5)
    rows = slice(4 if above else 0, 9 if below else 12)
    read = slice(rows.start - above, rows.stop + below)
    gradient = torch.randn(1, 8, 12, 5, generator=torch.manual_seed(5)).to(x)
    layer_of_gpu = with_passes_of_a_gpu(weight, bias, (12, 5))

    def of_image_by(algorithm):
        def run(*operands):
            layer_of_gpu.chosen["backward"] = algorithm
            return layer_of_gpu.image_gradient(*operands, 0.5, torch.float64)

        return run

    for run, operand in (
        (layer_of_gpu, x),
        (layer_of_gpu.relu, x),
        (layer_of_gpu.backward, gradient),
        (of_image_by(layer_of_gpu.chosen["backward"]), gradient),
        (of_image_by(OF_IMAGE), gradient),  # by one kernel
    ):
        part = run(operand[:, :, read], above > 0, below > 0)
        whole = run(operand, False, False)[:, :, rows]
        assert part.shape == whole.shape
        assert torch.allclose(part, whole, rtol=1e-12, atol=1e-12)


def test_channels_of_zeros_change_nothing():
    x, weight, _ = layer(3, 64, 9, 11)
    padded = pad_channels(x, 8)
    assert padded.shape == (1, 8, 9, 11)
    assert padded.is_contiguous(memory_format=torch.channels_last)
    assert not padded[:, 3:].any()
    expected = F.conv2d(x, weight, padding=1)
    result = F.conv2d(padded, pad_channels(weight, 8), padding=1)
    assert torch.allclose(result, expected, rtol=1e-13)
    assert pad_channels(padded, 8) is padded


def test_every_algorithm_is_right():
    x, weight, bias = layer(8, 16, 9, 11, torch.float32)
    gradient = torch.randn(1, 16, 9, 11, generator=torch.manual_seed(4)).to(DEVICE)
    flipped = weight.flip(2, 3).transpose(0, 1).contiguous()
    for algorithms, exact, operand in (
        (forward_algorithms(weight, bias), exact_forward(weight, bias), x),
        (backward_algorithms(weight, flipped), exact_backward(weight), gradient),
    ):
        expected = exact(operand)
        for algorithm in algorithms.values():
            try:
                with arithmetic(PRECISIONS["fp32"]):
                    result = algorithm(operand)
            except RuntimeError:
                assert not x.is_cuda  # cuDNN's own is for its devices
                continue
            assert (result - expected).norm() <= 1e-6 * expected.norm()


class Calls(TorchDispatchMode):
    """Records the operands of every operator called within."""

    def __init__(self):
        super().__init__()
        self.operands = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operands += [value for value in args if isinstance(value, torch.Tensor)]
        return func(*args, **(kwargs or {}))


def test_no_operand_of_the_gradient_makes_cudnn_copy_it_to_another_layout():
    _, weight, _ = layer(4, 8, 6, 5, torch.float32)
    last = {"memory_format": torch.channels_last}
    weight = weight.contiguous(**last)
    gradient = torch.ones(1, 8, 6, 5, device=DEVICE).contiguous(**last)
    flipped = weight.flip(2, 3).transpose(0, 1).contiguous(**last)
    for algorithm in backward_algorithms(weight, flipped).values():
        with Calls() as calls:
            algorithm(gradient)
        assert len(calls.operands) >= 2
        assert all(operand.is_contiguous(**last) for operand in calls.operands)


def test_without_a_bias_nothing_is_added():
    x, weight, _ = layer(8, 16, 9, 11)
    algorithms = forward_algorithms(weight, None)
    with Calls() as calls:
        (result,) = [algorithm(x) for algorithm in algorithms.values()]
    assert all(operand.dim() == 4 for operand in calls.operands)
    assert torch.equal(result, F.conv2d(x, weight, padding=1).relu())
    assert torch.allclose(Convolution(weight, None, (9, 11)).relu(x), result, rtol=1e-13)


def refuses(x):
    raise RuntimeError("not on this GPU")


def does_not_compile(x):
    raise SyntaxError("a compiler's error is of its own type")


def twice(x):
    return 2 * x.double()


def changing_its_mind():
    """Rounds each call differently, as sums of a varying order do."""
    calls = []

    def algorithm(x):
        calls.append(x)
        return 2 * x * (1 + len(calls) % 2 * torch.finfo(x.dtype).eps)

    return algorithm


ALGORITHMS = {
    "plain": lambda x: 2 * x,
    "quick": lambda x: x + x,
    "wrong": lambda x: 2.5 * x,
    "wrong far from the corner": lambda x: torch.cat((2.5 * x[:1], 2 * x[1:])),
    "inexact": lambda x: 2 * x * (1 + 1e-5 * torch.ones_like(x)),
    "nan": lambda x: x * float("nan"),
    "hides nan": lambda x: (2 * x).nan_to_num(0.0),
    "varies": changing_its_mind(),
    "refuses": refuses,
    "does not compile": does_not_compile,
}


@pytest.fixture
def unmeasured(monkeypatch, tmp_path):
    """No layer is measured yet; the file that choices are kept in."""
    monkeypatch.setenv("STYLEBENCH_CACHE", str(tmp_path))
    forget()
    yield tmp_path / "convolutions.json"
    forget()


def costing(**cost):
    """A measure by name of the algorithm; those without a cost take 0.5 s."""
    names = {algorithm: name for name, algorithm in ALGORITHMS.items()}
    return lambda algorithm, x: cost.get(names[algorithm], 0.5)


def fastest(x, seconds, algorithms=ALGORITHMS, precision="fp32"):
    with arithmetic(PRECISIONS[precision]):
        return select_fastest(algorithms, twice, x, seconds)


def test_the_fastest_correct_algorithm_is_taken(unmeasured):
    large = torch.ones(100, 100)  # beyond what is computed in fp64
    assert fastest(torch.ones(4, 4), costing(plain=3.0, quick=2.0)) == "quick"
    assert fastest(torch.ones(5, 4), costing(plain=0.1, quick=2.0)) == "plain"
    assert fastest(large, costing(plain=3.0, quick=2.0)) == "quick"


def test_fp32_is_held_to_fp32_and_only_tf32_to_less(unmeasured):
    quick = costing(plain=3.0, quick=2.0, inexact=0.1)
    x = torch.ones(4, 4)
    some = {name: ALGORITHMS[name] for name in ("plain", "quick", "inexact")}
    assert fastest(x, quick, some) == "quick"
    assert fastest(x, quick, some, "tf32") == "inexact"


def test_plain_pytorch_is_judged_too(unmeasured):
    """cuDNN may have found a fast inexact plan for it."""
    some = {name: ALGORITHMS[name] for name in ("inexact", "quick")}
    assert fastest(torch.ones(4, 4), costing(inexact=0.1, quick=2.0), some) == "quick"


def test_where_none_is_right_the_most_exact_is_taken(unmeasured):
    some = {"inexact": ALGORITHMS["inexact"], "less so": lambda x: 2 * x * 1.000005}
    assert fastest(torch.ones(4, 4), lambda *_: 1.0, some) == "less so"
    some = {name: ALGORITHMS[name] for name in ("refuses", "nan")}
    assert fastest(torch.ones(3, 4), lambda *_: 1.0, {"plain": lambda x: 3 * x, **some}) == "plain"


@pytest.mark.parametrize("fault", [lambda y, old: y + 0 * old, lambda y, old: y.where(y != 6, old)])
def test_what_a_search_left_in_the_memory_hides_no_algorithm_that_reads_it(
    unmeasured, monkeypatch, fault
):
    """cuDNN's search writes the results of all plans where the one it chose then writes.

    One that adds 0 times what is there would keep NaN for ever in a captured graph's memory.
    """
    x = torch.arange(16.0).view(4, 4)
    memory = torch.empty(4, 4)
    searched = []

    def reads(x):
        memory.copy_(fault(2 * x, memory) if searched else 2 * x)
        searched.append(x)
        return memory.clone()

    monkeypatch.setattr(conv_autotune, "_poison", lambda like: memory.fill_(float("nan")))
    some = {"plain": ALGORITHMS["plain"], "reads": reads}
    assert fastest(x, lambda algorithm, _: 0.1 if algorithm is reads else 1.0, some) == "plain"
    assert len(searched) > 1


def test_a_layer_is_computed_by_one_algorithm_in_a_process(unmeasured):
    """Whatever the next measurement is: the same seed gives the same bits."""
    x = torch.ones(4, 4)
    assert fastest(x, costing(plain=3.0, quick=2.0)) == "quick"
    plain_is_faster = costing(plain=0.1, quick=2.0)
    assert fastest(x, plain_is_faster) == "quick"
    assert fastest(x.double(), plain_is_faster) == "plain"
    others = {name: ALGORITHMS[name] for name in ("plain", "quick")}
    assert fastest(x, plain_is_faster, others) == "plain"
    assert fastest(x, plain_is_faster, precision="tf32") == "plain"


def never(algorithm, x):
    raise AssertionError("it was measured again")


SOME = {name: ALGORITHMS[name] for name in ("plain", "quick")}


def test_the_next_process_takes_what_was_chosen_and_runs_nothing_else(unmeasured):
    x = torch.ones(4, 4)
    ran = []
    recorded = {
        name: lambda x, name=name: ran.append(name) or SOME[name](x) for name in SOME
    }  # fmt: skip
    assert fastest(x, lambda algorithm, _: float(algorithm is recorded["plain"]), recorded)
    assert set(ran) == {"plain", "quick"}
    forget()
    ran.clear()
    assert fastest(x, never, recorded) == "quick"
    assert set(ran) == {"quick"}
    ran.clear()
    assert fastest(x, never, recorded) == "quick"
    assert not ran  # proven once a process


@pytest.mark.parametrize("fault", ["wrong", "inexact", "hides nan", "varies", "refuses"])
def test_what_was_chosen_and_no_longer_holds_is_measured_anew(unmeasured, fault):
    x = torch.ones(4, 4)
    slow_plain = lambda algorithm, _: float(algorithm is SOME["plain"])  # noqa: E731
    assert fastest(x, slow_plain, SOME) == "quick"
    forget()
    assert fastest(x, lambda *_: 1.0, SOME | {"quick": ALGORITHMS[fault]}) == "plain"
    assert '"plain"' in unmeasured.read_text()


def test_a_checkpoints_choice_is_taken_where_it_holds(unmeasured):
    x = torch.ones(4, 4)
    assert fastest(x, lambda algorithm, _: float(algorithm is SOME["plain"]), SOME) == "quick"
    ((machine, layers),) = choices_so_far().items()
    unmeasured.unlink()
    for name in ("plain", "of another version"):
        forget()
        choose_as({machine: dict.fromkeys(layers, name)})
        expected = name if name in SOME else "quick"
        assert fastest(x, lambda algorithm, _: float(algorithm is SOME["plain"]), SOME) == expected


@pytest.mark.parametrize("changed", ["gpu", "cudnn", "torch", "kernels"])
def test_another_machine_measures_for_itself(unmeasured, monkeypatch, changed):
    x = torch.ones(4, 4)
    fastest(x, lambda algorithm, _: float(algorithm is SOME["plain"]), SOME)
    forget()
    if changed == "gpu":
        monkeypatch.setattr(conv_autotune, "_machine", lambda device: "another")
    elif changed == "cudnn":
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 99999)
    elif changed == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9.9")
    else:
        monkeypatch.setattr(conv_autotune, "_sources", lambda: "abcd")
    with pytest.raises(AssertionError, match="measured again"):
        fastest(x, never, SOME)


@pytest.mark.parametrize("wanted", [3, 5])
def test_only_the_gradients_that_are_wanted_come_out(wanted):
    _, weight, _ = layer(8, 16, 9, 11, torch.float32)
    gradient = torch.randn(1, 16, 9, 11, generator=torch.manual_seed(4)).to(DEVICE)
    flipped = weight.flip(2, 3).transpose(0, 1).contiguous()
    algorithms = backward_algorithms(weight, flipped, wanted)
    assert ("stylekernels dgrad" in algorithms) is (wanted == 3)
    expected = exact_backward(weight, wanted)(gradient)
    for algorithm in algorithms.values():
        with arithmetic(PRECISIONS["fp32"]):
            result = algorithm(gradient)
        assert result.shape == (1, wanted, 9, 11)
        assert (result - expected).norm() <= 1e-6 * expected.norm()
    convolution = Convolution(weight, None, (9, 11), wanted=wanted)
    assert convolution.backward(gradient).shape == (1, wanted, 9, 11)
    image = convolution.image_gradient(gradient, False, False, 0.5, torch.float32)
    assert torch.equal(image, 0.5 * convolution.backward(gradient))
    assert image.is_contiguous()


def test_the_memory_of_a_result_that_is_cut_is_poisoned_as_a_whole(monkeypatch):
    sizes = []
    full = torch.full
    monkeypatch.setattr(
        torch, "full", lambda size, *a, **k: sizes.append(size) or full(size, *a, **k)
    )
    conv_autotune._poison(torch.ones(1, 4, 5, 8).permute(0, 3, 1, 2)[:, :3])
    assert sizes == [(160,)]


def test_cudnn_searches_all_plans_that_give_the_same_bits_again(unmeasured):
    """cuDNN keeps the first plan of a shape, searched for or not."""
    cudnn = torch.backends.cudnn
    searching = []

    def record(x):
        searching.append((cudnn.benchmark, cudnn.benchmark_limit))
        return 2 * x

    before = cudnn.benchmark, cudnn.benchmark_limit
    fastest(
        torch.ones(4, 4),
        lambda algorithm, x: float(algorithm(x)[0, 0]),
        {"a": record, "b": lambda x: record(x)},
    )
    assert len(searching) >= 4
    assert set(searching) == {(True, 0)}
    assert (cudnn.benchmark, cudnn.benchmark_limit) == before


def test_cudnn_is_asked_for_the_same_bits_again(monkeypatch):
    _, weight, bias = layer(8, 16, 9, 11)
    asked = []

    def record(x, *_, **__):
        asked.append(torch.backends.cudnn.deterministic)
        return x

    monkeypatch.setattr(F, "conv2d", record)
    monkeypatch.setattr(F, "conv_transpose2d", record)
    monkeypatch.setattr(torch, "cudnn_convolution_relu", record)
    before = torch.backends.cudnn.deterministic
    flipped = weight.flip(2, 3).transpose(0, 1)
    for algorithms in (forward_algorithms(weight, bias), backward_algorithms(weight, flipped)):
        for algorithm in algorithms.values():
            algorithm(torch.zeros(1, 16, 4, 4, dtype=weight.dtype, device=DEVICE))
    assert asked == 5 * [True]
    assert torch.backends.cudnn.deterministic is before
    with deterministic():
        assert torch.backends.cudnn.deterministic


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("choice", [0, -1])
def test_a_layer_can_be_planned_for_a_gpu_that_is_not_there(monkeypatch, with_bias, choice):
    """Fake tensors have the device, the shapes and the layouts, and are not computed."""
    monkeypatch.setattr(convolution, "select_fastest", lambda known, *_: list(known)[choice])
    with FakeTensorMode():
        monkeypatch.setattr(
            convolution, "_sample", lambda channels, like, size: like.new_empty(1, channels, *size)
        )
        weight = torch.empty(64, 3, 3, 3, device="cuda", dtype=torch.float16)
        bias = weight.new_empty(64) if with_bias else None
        layer = Convolution(weight, bias, (12, 10))
        x = weight.new_empty(1, 3, 12, 10).contiguous(memory_format=torch.channels_last)
        assert layer(x).shape == (1, 64, 12, 10)
        gradient = layer.backward(layer.relu(x) if choice == 0 else layer(x))
        assert (gradient.shape, gradient.dtype, gradient.device.type) == (x.shape, x.dtype, "cuda")


@pytest.mark.skipif(DEVICE.type != "cuda", reason="other devices have one algorithm")
def test_a_gpu_has_every_layer_measured():
    _, weight, bias = layer(64, 64, 32, 32, torch.float16)
    chosen = Convolution(weight, bias, (32, 32)).chosen
    assert set(chosen) == {"forward", "backward"}
    assert Convolution(weight, bias, (32, 32)).chosen == chosen


@pytest.mark.skipif(DEVICE.type != "cuda", reason="other devices have one algorithm")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_algorithms_chosen_on_a_gpu_let_nan_through(dtype):
    x, weight, bias = layer(64, 64, 32, 32, dtype)
    convolution = Convolution(weight, bias, (32, 32))
    spoilt = torch.full_like(x, float("nan"))
    assert convolution.relu(spoilt).isnan().all()
    assert convolution.backward(spoilt).isnan().all()


def test_another_thread_does_not_choose_as_several_processes_do(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEBENCH_CACHE", str(tmp_path))
    layer_here = "a machine", "a layer", lambda: "its own", lambda name: True
    with choosing_as(lambda name: "the first's"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(choose_once, *layer_here).result() == "its own"
        assert choose_once(*layer_here) == "the first's"
    forget()

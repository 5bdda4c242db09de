"""The functions as torch operators: schemas, fakes, compilation, FLOP counts, dispatch."""

import subprocess
import sys

import pytest
import torch
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

import stylekernels
import stylekernels.flops  # registers the formulas
from stylekernels.ops.style.op import gram_operator, style_loss_operator
from stylekernels.runtime import dispatch

OPERATORS = torch.ops.stylekernels


def operands(x):
    """Every operator with arguments to match `x`; True where autograd goes through it."""
    batch, channels, height, width = x.shape
    s = torch.rand(batch, channels, channels, device=x.device)
    target, scalar = s[0] + s[0].T, torch.tensor(2.0, device=x.device)
    ones, factors = (torch.ones(n, device=x.device) for n in (batch, channels))
    pooled = x.new_ones((batch, channels, height // 2, width // 2))
    code = torch.full_like(pooled, 5, dtype=torch.uint8)
    content = x.detach().clone()
    gains = torch.rand(3, height, width, device=x.device)
    return {
        "bias_relu_": ((content, torch.ones(channels, device=x.device)), False),
        "dgrad": ((content, content.new_ones(channels, 3, 3, 3), 0.5, torch.float32), False),
        "tap_dgrad": (
            (content, x, s, content.new_ones(channels, 3, 3, 3), ones, factors, 0.5, x.dtype),
            False,
        ),
        "gram": ((x,), True),
        "gram_backward": ((s, x), False),
        "style_loss": ((x, target, 0.5, factors), True),
        "style_loss_backward": ((scalar, x, s, ones), False),
        "style_tap_backward": ((content, x, s, ones, content + 1, 0.1, factors), False),
        "style_tap_backward_": ((content, x, s, ones, None, 0.0), False),
        "content_loss": ((x, content, 0.5, factors), True),
        "content_loss_backward": ((scalar, x, content, 0.5, factors), False),
        "content_loss_backward_": ((content, x, x.detach() + 1, 0.5, None, True), False),
        "relu_pool2d": ((x, False), True),
        "relu_pool2d_backward": ((pooled, code, height, width, True), False),
        "tv_loss": ((x, 0.5, True), True),
        "tv_loss_backward": ((scalar, x, 0.5, False), False),
        "tv_loss_backward_": ((content, x, 0.5, True), False),
        "network_input": ((x, 0.5, torch.float16, 2, 2 * channels + 3), False),
        "image_gradient": ((x, 0.5, 3, torch.float16), False),
        "scale_spectrum_": ((torch.complex(gains, gains)[None], s.new_ones(3, 3), gains), False),
        "loss_terms": (([scalar, scalar + 1], 0.5, s.new_zeros(3)), False),
        "log_row_": ((s.new_zeros(4, 3), code.new_zeros(1).long(), s.new_ones(2), scalar), False),
    }


NAMES = tuple(operands(torch.ones(1, 4, 4, 6)))


# opcheck itself reads .grad of a tensor that is not a leaf
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_operator_passes_opcheck_in_every_layout(name, layout, activation):
    x = activation((2, 6, 5, 7), torch.float32, layout)
    arguments, differentiable = operands(x.requires_grad_())[name]
    if not differentiable:
        arguments, _ = operands(x.detach())[name]
    results = opcheck(getattr(OPERATORS, name).default, arguments)
    assert set(results.values()) == {"SUCCESS"}


def test_every_registered_operator_is_checked():
    registered = {
        name.removeprefix("stylekernels::").split(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("stylekernels::")
    }
    others = {name for name in registered if name.startswith("lbfgs")}
    assert registered - others == set(NAMES)


@pytest.mark.slow  # a C++ compiler runs
# torch 2.11's compiler warns of its own torch.jit
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="needs a C++ compiler set up")
def test_everything_compiles_into_one_graph_forward_and_backward(activation):
    z = activation((1, 8, 6, 6))
    target, content = torch.eye(8, device=z.device), torch.ones_like(z)

    def objective(z):
        y = torch.relu(z)
        loss = stylekernels.style_loss(y, target, 0.5)
        both = (stylekernels.relu_avg_pool2d(y), stylekernels.relu_max_pool2d(y))
        loss = loss + sum(stylekernels.style_loss(p, target, 2.0) for p in both)
        loss = loss + stylekernels.content_loss(y, content, 0.5)
        loss = loss + stylekernels.tv_loss(y, 0.1, "l2") + stylekernels.gram(y).sum()
        return loss + both[0].sum() + both[1].mean()

    def run(function):
        leaf = z.clone().requires_grad_()
        loss = function(leaf)
        return loss, *torch.autograd.grad(loss, leaf)

    eager = run(objective)
    compiled = run(torch.compile(objective, fullgraph=True))
    for value, expected in zip(compiled, eager, strict=True):
        torch.testing.assert_close(value, expected)


def test_flops_are_those_of_the_plain_formulation(activation):
    x = activation((2, 8, 5, 7)).requires_grad_()
    target = torch.eye(8, device=x.device)

    def count(loss_of):
        with FlopCounterMode(display=False) as counter:
            loss_of(x).backward()
        return counter.get_total_flops()

    def plain(x):
        rows = x.flatten(2)
        return ((rows @ rows.mT / 35 - target) ** 2).sum()

    once = 2 * 2 * 8 * 8 * 35
    assert count(lambda x: stylekernels.style_loss(x, target, 1.0)) == 2 * once
    with FlopCounterMode(display=False) as counter:
        y = x.detach()
        stylekernels.style_tap_backward_(y.clone(), y, torch.rand(2, 8, 8, device=x.device))
    assert counter.get_total_flops() == once
    with FlopCounterMode(display=False) as counter:
        stylekernels.dgrad(y, torch.ones(8, 3, 3, 3, device=x.device))
    assert counter.get_total_flops() == 2 * 2 * 9 * 8 * 3 * 35
    with FlopCounterMode(display=False) as counter:
        square, weight = torch.rand(2, 8, 8, device=x.device), torch.ones(8, 3, 3, 3)
        stylekernels.tap_dgrad(y, y, square, weight.to(x.device))
    assert counter.get_total_flops() == once + 2 * 2 * 9 * 8 * 3 * 35
    assert count(plain) == 3 * once  # autograd multiplies both operands' gradients out


@pytest.fixture
def dispatched(monkeypatch):
    """Names of the operators that were dispatched, of two."""
    seen = []

    def watch(operator):
        def call(*arguments, call=operator._dispatched):
            seen.append(operator.name.removeprefix("stylekernels::"))
            return call(*arguments)

        monkeypatch.setattr(operator, "_dispatched", call)

    watch(gram_operator)
    watch(style_loss_operator)
    return seen


def test_eager_code_without_autograd_is_not_dispatched(activation, dispatched):
    x = activation((1, 8, 6, 7))
    plain = stylekernels.gram(x)
    stylekernels.style_loss(x, plain, 1.0)
    with torch.no_grad():
        stylekernels.gram(x.requires_grad_())
    assert dispatched == []
    assert torch.equal(OPERATORS.gram(x.detach()), plain)


def test_who_watches_or_differentiates_meets_the_operator(activation, dispatched):
    x = activation((1, 8, 6, 7))
    with FlopCounterMode(display=False) as counter:
        stylekernels.gram(x)
    assert counter.get_total_flops() == 2 * 8 * 8 * 42
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        stylekernels.gram(x)
    assert "stylekernels::gram" in {event.name for event in seen.events()}
    target = torch.eye(8, device=x.device)
    assert stylekernels.style_loss(x.requires_grad_(), target, 1.0).requires_grad
    assert dispatched == ["gram", "gram", "style_loss"]


def test_what_is_not_dispatched_still_counts_as_a_change(activation):
    x = activation((1, 8, 6, 7))
    leaf = torch.ones_like(x, requires_grad=True)
    saved = x.clone()
    product = (leaf * saved).sum()
    stylekernels.bias_relu_(saved, bias=torch.ones(8, device=x.device))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
    named = x.clone()
    before = named._version
    stylekernels.bias_relu_(x=named, bias=torch.ones(8, device=x.device))
    assert named._version > before


def test_inference_tensors_may_be_changed(activation):
    with torch.inference_mode():
        x = activation((1, 8, 6, 7)).clone()
        stylekernels.bias_relu_(x, torch.ones(8, device=x.device))
        assert x.min() >= 0


@pytest.mark.slow
def test_import_leaves_triton_alone_and_eager_calls_the_compiler():
    script = """
import sys, torch, stylekernels
assert "triton" not in sys.modules
x = torch.ones(1, 4, 6, 6)
stylekernels.gram(x)
stylekernels.bias_relu_(x, torch.ones(4))
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.slow
def test_everything_works_where_triton_is_absent():
    script = """
import sys
sys.modules["triton"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "triton" else find(name, *rest)
import torch, stylekernels
x = torch.ones(1, 4, 6, 6, requires_grad=True)
loss = stylekernels.style_loss(x, torch.eye(4), 1.0)
(loss + stylekernels.relu_avg_pool2d(x).sum()).backward()
assert x.grad.isfinite().all()
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_interpreting_needs_the_interpreter():
    triton = pytest.importorskip("triton")
    if triton.knobs.runtime.interpret:
        pytest.skip("this is the interpreter")
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET=1"), dispatch.interpreted():
        pass

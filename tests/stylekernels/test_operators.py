"""What makes the functions good citizens of torch: schemas, fakes, compilation, FLOP counts."""

import subprocess
import sys

import pytest
import torch
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

import stylekernels
import stylekernels.flops  # registers the formulas
from stylekernels import dispatch

OPERATORS = torch.ops.stylekernels


def operands(x):
    """Every operator with arguments to match `x`; True where autograd goes through it."""
    batch, channels, height, width = x.shape
    s = torch.rand(batch, channels, channels, device=x.device)
    target, scalar = s[0] + s[0].T, torch.tensor(2.0, device=x.device)
    pooled = x.new_ones((batch, channels, height // 2, width // 2))
    code = torch.full_like(pooled, 5, dtype=torch.uint8)
    content, pair = x.detach().clone(), torch.ones(2, device=x.device)
    return {
        "bias_relu_": ((content, torch.ones(channels, device=x.device)), False),
        "gram": ((x,), True),
        "gram_backward": ((s, x), False),
        "style_loss": ((x, target, 0.5), True),
        "style_loss_backward": ((scalar, x, s), False),
        "style_losses": (([x, x.detach()], [target, target], [0.5, 1.0]), True),
        "style_losses_backward": ((pair, [x, x.detach()], [s, s]), False),
        "style_tap": ((x, target, 0.5, content, 0.1), True),
        "style_tap_": ((x, target, 0.5, None, 0.0), False),
        "style_tap_backward": ((content, x, s, pair, content, 0.1), False),
        "style_tap_backward_": ((content, x, s, None, 0.0), False),
        "content_loss": ((x, content, 0.5), True),
        "content_loss_backward": ((scalar, x, content, 0.5), False),
        "content_loss_backward_": ((content, x, x.detach() + 1, 0.5), False),
        "relu_pool2d": ((x, False), True),
        "relu_pool2d_backward": ((pooled, code, height, width, True), False),
        "tv_loss": ((x, 0.5, True), True),
        "tv_loss_backward": ((scalar, x, 0.5, False), False),
        "tv_loss_backward_": ((content, x, 0.5, True), False),
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


# torch 2.11's compiler warns of its own torch.jit
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="needs a C++ compiler set up")
def test_everything_compiles_into_one_graph_forward_and_backward(activation):
    z = activation((1, 8, 6, 6))
    target, content = torch.eye(8, device=z.device), torch.ones_like(z)

    def objective(z):
        y, loss = stylekernels.style_tap(z, target, 0.5, content, 0.1)
        both = (stylekernels.relu_avg_pool2d(y), stylekernels.relu_max_pool2d(y))
        loss = loss + sum(stylekernels.style_loss(p, target, 2.0) for p in both)
        loss = loss + stylekernels.style_losses(both, [target] * 2, [1.0, 2.0]).sum()
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
    assert count(lambda x: stylekernels.style_tap(x, target, 1.0)[1]) == 2 * once
    assert count(lambda x: stylekernels.style_losses([x, x], [target] * 2, [1.0] * 2).sum()) == (
        4 * once
    )
    assert count(plain) == 3 * once  # autograd multiplies both operands' gradients out


def test_import_leaves_triton_alone():
    script = "import sys, stylekernels; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_everything_works_where_triton_is_absent():
    script = """
import sys
sys.modules["triton"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "triton" else find(name, *rest)
import torch, stylekernels
x = torch.ones(1, 4, 6, 6, requires_grad=True)
y, loss = stylekernels.style_tap(x, torch.eye(4), 1.0)
(loss + stylekernels.relu_avg_pool2d(y).sum()).backward()
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

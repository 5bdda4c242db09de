"""The tap behind the first convolution, whose gradient the image's kernel takes on CUDA."""

import pytest
import torch

import stylekernels as sk
from stylebench.bench.model.iteration import trace_iteration
from stylebench.engines import Fused
from stylebench.engines.fused.conv_algorithms import OF_IMAGE
from stylebench.engines.fused.convolution import Convolution
from stylebench.transfer.settings import Settings
from stylekernels.model.gpus import DATA_SHEETS
from stylekernels.runtime.dispatch import has_triton

from .problems import DEVICE, SHALLOWEST, build, random_images, result_at


@pytest.fixture
def tapped(monkeypatch):
    """Calls of the operator that takes a tap too."""
    calls = []

    def record(*operands, tap_dgrad=sk.tap_dgrad):
        calls.append(operands)
        return tap_dgrad(*operands)

    monkeypatch.setattr(sk, "tap_dgrad", record)
    return calls


@pytest.mark.skipif(DEVICE.type != "cpu", reason="a GPU has chosen its own algorithm")
def test_a_tap_that_the_convolution_takes_changes_no_bit(weights, tapped, monkeypatch):
    """On a CPU plain torch stands for the kernels: the same operations, otherwise arranged."""
    engine, image = build(Fused, weights, SHALLOWEST, "bf16", random_images(weights))
    first = engine._stages[0].convolution
    weight = weights.layers["conv1_1"][0].bfloat16()
    first.chosen["backward"], first._weight = OF_IMAGE, torch.cat((weight, weight), dim=1)
    terms, gradient = result_at(engine, image)
    assert len(tapped) == 1
    with monkeypatch.context() as patch:
        patch.setattr(Convolution, "takes_tap", False)
        before, apart = result_at(engine, image)
    assert len(tapped) == 1
    assert torch.equal(terms.values, before.values)
    assert torch.equal(gradient, apart)


#: Layers with losses, precision and the kernels of taps on their own.
CASES = {
    "style alone": ({"style_layers": {"relu1_1": 1.0, "relu2_1": 1.0}}, "fp16", 1),
    "in bf16": ({"style_layers": {"relu1_1": 1.0, "relu2_1": 1.0}}, "bf16", 1),
    "in fp32": ({"style_layers": {"relu1_1": 1.0, "relu2_1": 1.0}}, "fp32", 2),
    "content too": (
        {"content_layers": {"relu1_1": 1.0}, "style_layers": {"relu1_1": 1.0, "relu2_1": 1.0}},
        "fp16",
        2,
    ),
    "before the ReLU too": ({"style_layers": {"conv1_1": 1.0, "relu1_1": 1.0}}, "fp16", 2),
    "nothing above": ({"content_layers": {}, "style_layers": {"relu1_1": 1.0}}, "fp16", 1),
}


@pytest.mark.skipif(not has_triton(), reason="Triton is not installed")
@pytest.mark.parametrize(("layers", "precision", "kernels"), CASES.values(), ids=CASES)
def test_other_taps_keep_a_kernel_of_their_own(layers, precision, kernels):
    settings = Settings(size=32, engine="fused", precision=precision, optimizer="lbfgs", **layers)
    trace = trace_iteration(DATA_SHEETS["h100"], (32, 32), settings)
    names = [kernel.name for kernel in trace.kernels]
    assert sum(name.startswith("tap_bwd") for name in names) == kernels
    assert names.count("dgrad_kernel") == 1

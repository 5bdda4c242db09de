"""The cost model of an iteration: the kernels that the real engine, optimizer and log launch."""

import json
from dataclasses import replace
from functools import cache

import pytest
import torch

from stylebench.bench.measure.statistics import timing
from stylebench.bench.model import command, measured
from stylebench.bench.model.costs import cached_bytes, modelled
from stylebench.bench.model.iteration import trace_iteration
from stylebench.bench.model.parts import OTHER, PARTS, part_of
from stylebench.bench.records.record import Machine
from stylebench.bench.workloads.roofline import ConvStack
from stylebench.engines.fused import convolution, engine
from stylebench.model.vgg import CAFFE, Weights
from stylebench.transfer.settings import Settings
from stylekernels.model.gpus import DATA_SHEETS, GAP
from stylekernels.model.tracer import Kernel, Trace, Wait
from stylekernels.runtime.dispatch import has_triton
from stylekernels.runtime.work import Work

pytestmark = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")

#: Precision -> kernels of an iteration with L-BFGS, at most. The aim is 60; 13 are on the side
#: stream, where no convolution waits for them. In half precision one takes a tap and a convolution.
MOST_LAUNCHES = {"fp16": 64, "bf16": 64, "tf32": 65, "fp32": 65}
SHEET = DATA_SHEETS["h100"]
SIDE = 64  # px; the number of kernels is the same at any size


@cache
def iteration(precision="fp16", optimizer="lbfgs"):
    settings = Settings(engine="fused", size=SIDE, precision=precision, optimizer=optimizer)
    return modelled(trace_iteration(SHEET, (SIDE, SIDE), settings), SHEET)


@pytest.mark.parametrize("precision", MOST_LAUNCHES)
def test_an_iteration_launches_no_more_kernels_than_these(precision):
    kernels = iteration(precision).kernels
    names = [f"{kernel.part}: {kernel.name}" for kernel in kernels]
    assert len(kernels) <= MOST_LAUNCHES[precision], "\n".join(names)
    assert sum(kernel.beside for kernel in kernels) == 13


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_host_waits_for_nothing(optimizer):
    assert iteration(optimizer=optimizer).host_waits == []


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_every_kernel_has_a_part_and_a_description(optimizer):
    kernels = iteration(optimizer=optimizer).kernels
    assert [kernel.name for kernel in kernels if kernel.part == OTHER] == []
    assert [kernel.name for kernel in kernels if not kernel.described] == []


def test_the_innermost_function_decides_which_part_a_kernel_is_of():
    mask, convolve = "stylekernels.ops.pointwise.cpu:mask_", "stylebench.engines.fused.convolution:"
    assert part_of([mask, f"{convolve}backward_masked"]) == "masks"
    assert part_of([f"{convolve}backward_masked", mask]) == "convolutions backward"
    assert part_of([f"{convolve}relu"]) == "convolutions forward"
    assert part_of(["stylebench.elsewhere:relu"]) == OTHER


def test_convolutions_have_the_operations_of_the_network():
    """But for the first one's input, of 8 channels for 3, and the tap that its gradient takes."""
    stack = ConvStack(Weights("none", {}, CAFFE), "relu5_1")
    padding = 2 * 9 * (8 - 3) * 64 * SIDE**2
    rows = {row.part: row.flops for row in iteration().rows}
    counted = rows["convolutions forward"] + rows["convolutions backward"]
    tap = 2 * 64 * 64 * SIDE**2
    assert counted == stack.flops((SIDE, SIDE)) + padding + tap


def test_parts_add_up_to_the_iteration():
    one = iteration()
    assert sum(row.launches for row in one.rows) == len(one.kernels) == one.total.launches
    both = sum(row.seconds + row.beside for row in one.rows)
    assert both == pytest.approx(one.in_turn)
    assert one.roof < one.seconds < one.in_turn
    assert one.seconds_cached < one.seconds


def test_losses_at_layers_are_hidden_beside_the_convolutions():
    beside = {row.part for row in iteration().rows if row.beside}
    assert beside == {"gram, finish", "content", "losses"}


def kernel(stream, *, reads=(), writes=(), flops=0.0):
    return Kernel("k", Work(tuple(reads), tuple(writes), flops), stream, ())


def test_streams_run_beside_each_other_until_one_waits():
    ten = {"flops": 10e-6 * SHEET.peaks["fp32"]}  # us
    four = {"reads": [torch.empty(round(4e-6 * SHEET.bandwidth), dtype=torch.uint8)]}
    first, fork, beside, then = kernel(0, **ten), Wait(1, 0), kernel(1, **four), kernel(0, **ten)
    join = Wait(0, 1)
    for events, seconds in (
        ([first, fork, beside, then, join], 20e-6 + 2 * GAP),
        ([first, fork, beside, join, then], 24e-6 + 3 * GAP),
    ):
        one = modelled(Trace(events), SHEET)
        assert one.seconds == pytest.approx(seconds, rel=1e-5)
        assert one.in_turn == pytest.approx(24e-6 + 3 * GAP, rel=1e-5)


def test_together_streams_do_no_more_than_the_gpu_can():
    peak = SHEET.peaks["fp32"]
    both = [kernel(0, flops=1e-3 * peak), kernel(1, flops=1e-3 * peak), Wait(0, 1)]
    assert modelled(Trace(both), SHEET).seconds == pytest.approx(2e-3)


def test_the_cache_has_what_was_touched_a_short_while_ago():
    a, b, c = (torch.zeros(250) for _ in range(3))  # 1000 bytes each
    kernels = [kernel(0, writes=[a]), kernel(0, reads=[a], writes=[b]), kernel(0, writes=[c])]
    kernels.append(kernel(0, reads=[a, b]))
    assert list(cached_bytes(kernels, 5000)) == [0, 1000, 0, 2000]
    assert list(cached_bytes(kernels, 1000)) == [0, 1000, 0, 0]


def test_what_stands_in_for_numbers_goes_away():
    before = engine.rescale_in_place, convolution.select_fastest, convolution._sample
    iteration.__wrapped__()
    assert (engine.rescale_in_place, convolution.select_fastest, convolution._sample) == before


def run(capsys, *arguments):
    code = command.main(["--size", str(SIDE), *arguments])
    return code, *capsys.readouterr()


def test_the_command_prints_parts_and_says_that_nothing_was_measured(capsys, tmp_path):
    path = tmp_path / "model.json"
    code, text, _ = run(capsys, "--gpu", "a100", "--json", str(path))
    assert code == 0
    assert "MODELLED, NOT MEASURED: by the data sheet of NVIDIA A100" in text
    data = json.loads(path.read_text())
    assert data["measured"] is False
    assert len(data["kernels"]) == data["rows"][-1]["launches"]
    for row in data["rows"]:
        assert f"\n{row['part']} " in text
    assert {row["part"] for row in data["rows"]} <= {*PARTS, "all"}


WANTED = {"precision": "fp16", "width": 64, "height": 64, "optimizer": "lbfgs", "history": 100}
H100 = Machine("NVIDIA H100 80GB HBM3", "nvidia-h100", "cuda", gpu="NVIDIA H100 80GB HBM3")


def timed(case, name, seconds, **parameters):
    parts = {"convolutions": 3e-4, "rest": 1e-4} if "engine" in parameters else {}
    one = case(name, parts=parts)
    summed = timing("cuda graph", [seconds] * 3, ())
    return replace(one, parameters={**WANTED, **parameters}, timing=summed)


def test_a_record_of_iterations_is_laid_beside_the_parts_of_its_profile(case, record):
    ours = timed(case, "fused", 5e-4, engine="fused")
    others = timed(case, "eager", 9e-4, engine="eager"), timed(case, "h", 1.0, history=20)
    found = measured.measured_of(record(ours, *others, machine=H100), "h100", WANTED, [])
    assert [(one.name, one.seconds) for one in found] == [
        ("iteration", 5e-4), ("convolutions", 3e-4), ("rest", 1e-4),
    ]  # fmt: skip
    assert {part for one in found for part in one.parts} >= {"convolutions forward", "masks"}


def test_a_record_of_kernels_is_laid_beside_where_all_layers_are_there(case, record):
    size = {"implementation": "stylekernels", "kernel": "style forward"}
    cases = [timed(case, layer, 1e-5, layer=layer, **size) for layer in ("relu1_1", "relu2_1")]
    table = record(*cases, suite="kernels", machine=H100)
    (found,) = measured.measured_of(table, "h100", WANTED, ["relu1_1", "relu2_1"])
    assert (found.name, found.parts, found.seconds) == ("style forward", ("gram, finish",), 2e-5)
    size["kernel"] = "tap backward"
    cases = [timed(case, layer, 1e-5, layer=layer, **size) for layer in ("relu1_1", "relu2_1")]
    taps = record(*cases, suite="kernels", machine=H100)
    (found,) = measured.measured_of(taps, "h100", WANTED, ["relu1_1", "relu2_1"])
    assert (found.name, found.seconds) == ("tap backward", 1e-5)  # the first is with a convolution
    with pytest.raises(ValueError, match="has no time of this iteration"):
        measured.measured_of(table, "h100", WANTED, ["relu1_1", "relu2_1", "relu3_1"])


def test_records_of_other_gpus_and_suites_are_refused(record):
    with pytest.raises(ValueError, match="is of 'A machine': expected one of h100"):
        measured.measured_of(record(), "h100", WANTED, [])
    with pytest.raises(ValueError, match="is of suite 'sizes': expected iteration or kernels"):
        measured.measured_of(record(suite="sizes", machine=H100), "h100", WANTED, [])


def test_bad_input_is_one_line(capsys, tmp_path):
    for wrong in (
        ["--measured", str(tmp_path / "none.json")], ["--history", "0"],
        ["--size", "0"], ["--size", "15"], ["--size", "99999"],
    ):  # fmt: skip
        code, text, line = run(capsys, *wrong)
        assert (code, text, line.count("\n")) == (2, "", 1)
        assert line.startswith("stylebench.bench.model: error: ")

"""The side stream: losses run on it, and no kernel touches what the other stream may be at.

Iterations are traced on fake CUDA tensors, with streams that note who waits for whom.
"""

import pytest
import torch

from stylebench.bench.model.iteration import stand_ins, stepper_of
from stylebench.engines.fused.side import SideStream
from stylebench.engines.fused.stage import Stage
from stylebench.transfer.settings import Settings
from stylekernels.model.gpus import DATA_SHEETS
from stylekernels.model.tracer import TracedStream, tracing

from .problems import TAPS
from .races import Access, Watching, races

SHEET = DATA_SHEETS["h100"]
SIZE = (32, 48)
LAYERS = {
    "the preset's": {},
    "variation too": {"tv_weight": 1.0},
    **{name: layers for name, layers in TAPS.items() if "variation" not in name},
}
MAIN, SIDE = 0, 1


def traced(iterations=2, precision="fp16", **layers):
    """Events of some iterations of the fused engine."""
    settings = Settings(size=48, engine="fused", precision=precision, optimizer="lbfgs", **layers)
    with tracing(SHEET.gpu, Watching()) as tracer, stand_ins(tracer, SHEET):
        stepper = stepper_of(SIZE, settings, tracer)
        del tracer.events[:]
        stepper.advance(iterations)
        return list(tracer.events)


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_no_kernel_touches_what_the_other_stream_may_be_at(layers):
    assert races(traced(**layers)) == []


def test_nor_does_one_in_fp32():
    assert races(traced(precision="fp32")) == []


def test_grams_and_losses_run_on_the_side_and_gradients_do_not():
    names = {MAIN: set(), SIDE: set()}
    for event in traced():
        if isinstance(event, Access):
            names[event.stream].add(event.name)
    assert {"gram_fwd_kernel", "gram_finish_kernel", "content_fwd_kernel"} <= names[SIDE]
    assert not names[MAIN] & {"gram_fwd_kernel", "gram_finish_kernel", "content_fwd_kernel"}
    assert not names[SIDE] & {"tap_bwd_kernel", "lbfgs_apply_kernel", "cudnn_convolution_relu"}


def test_a_gram_that_does_not_wait_for_its_convolution_is_a_race(monkeypatch):
    wait = TracedStream.wait_stream
    monkeypatch.setattr(
        TracedStream, "wait_stream", lambda self, other: self.number == SIDE or wait(self, other)
    )
    assert any(race.startswith("gram_fwd_kernel does not wait for") for race in races(traced()))


@pytest.mark.parametrize(
    ("missing", "race"),
    [
        (0, "tap_bwd_kernel does not wait for gram_finish_kernel"),
        (1, "log_row_kernel does not wait for loss_terms_kernel"),
    ],
    ids=["before the gradients", "before the losses are read"],
)
def test_a_join_that_is_missing_is_a_race(monkeypatch, missing, race):
    join, asked = SideStream.join, []

    def some(self):
        asked.append(self)
        if (len(asked) - 1) % 2 != missing:
            join(self)

    monkeypatch.setattr(SideStream, "join", some)
    assert race in races(traced())


def test_a_map_that_the_next_stage_writes_over_is_a_race(monkeypatch):
    forward = Stage.forward
    monkeypatch.setattr(Stage, "forward", lambda self, x: forward(self, x.neg_()))
    assert "neg_ does not wait for gram_fwd_kernel" in races(traced())


def test_a_map_that_is_freed_before_the_join_is_a_race(monkeypatch):
    """Its memory would go to a later map while the Gram matrix still reads it."""
    losses = Stage.losses

    def forgetful(self):
        taken = losses(self)
        if self.relu_tap and self.relu_tap.style is None:  # its gradient is not looked at
            self._x.release()
        return taken

    monkeypatch.setattr(Stage, "losses", forgetful)
    monkeypatch.setattr(Stage, "backward", lambda self, above: None)
    found = races(traced(style_layers={}, content_layers={"relu1_1": 1.0, "relu2_1": 1.0}))
    assert any("freed memory that is used by content_fwd_kernel" in race for race in found)


def test_without_cuda_there_is_no_stream():
    side = SideStream(torch.device("cpu"), cuda=None)
    with side.fork():
        pass
    side.join()

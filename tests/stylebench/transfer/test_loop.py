"""The loop: what it counts, keeps, tells and refuses, with a stand-in engine."""

import pytest
import torch

from stylebench.engines import LossTerms
from stylebench.transfer.loop import optimize
from stylebench.transfer.trace import NonFinite, Trace
from stylebench.watch.step import Step


class Bowl:
    """loss = |x|^2 in two terms; ``spoil`` maps an evaluation to a tensor put in a term's place."""

    name = "bowl"

    def __init__(self, spoil=None):
        self.spoil = spoil or {}
        self.evaluations = 0

    def loss_and_grad(self, image):
        self.evaluations += 1
        half = image.square().sum() / 2
        terms = torch.stack([half, half])
        gradient = 2 * image
        if self.evaluations in self.spoil:
            what, value = self.spoil[self.evaluations]
            (terms if what == "term" else gradient).view(-1)[1] = value
        return LossTerms(("content relu4_2", "style relu1_1"), terms), gradient


class Descent:
    """Plain gradient steps; ``jumps`` maps a step to a factor on the image instead."""

    def __init__(self, image, jumps=None, stop_at=None):
        self.image, self.jumps, self.stop_at, self.steps = image, jumps or {}, stop_at, 0

    def step(self, gradient, loss):
        self.steps += 1
        if self.steps in self.jumps:
            self.image.mul_(self.jumps[self.steps])
        else:
            self.image.sub_(0.1 * gradient)
        return self.steps == self.stop_at


def run(engine, iterations=10, tell=None, **descent):
    image = torch.ones(1, 3, 2, 2)
    trace = Trace(best=image.clone())
    optimize(
        engine,
        image,
        Descent(image, **descent),
        iterations,
        trace,
        tell and (lambda row: tell(row, image)),
    )
    return image, trace


def test_an_iteration_is_a_function_evaluation():
    engine = Bowl()
    _, trace = run(engine, 7)
    assert engine.evaluations == 7
    assert [row["iteration"] for row in trace.rows] == list(range(1, 8))


def test_history_holds_the_loss_and_every_term():
    _, trace = run(Bowl())
    first = trace.rows[0]
    assert first["loss"] == 12.0
    assert first["content relu4_2"] == first["style relu1_1"] == 6.0
    assert all(a["loss"] > b["loss"] for a, b in zip(trace.rows, trace.rows[1:], strict=False))
    assert all(
        a["seconds"] < b["seconds"] for a, b in zip(trace.rows, trace.rows[1:], strict=False)
    )


def test_the_image_with_the_lowest_loss_is_kept():
    _, trace = run(Bowl(), jumps={5: 100.0})
    assert trace.best_iteration == 5
    assert trace.best_loss == trace.rows[4]["loss"]
    assert trace.best.square().sum().item() == pytest.approx(trace.best_loss)


def test_converging_ends_the_loop():
    _, trace = run(Bowl(), stop_at=4)
    assert len(trace.rows) == 4


def test_steps_tell_rate_and_time_to_go():
    row = {"iteration": 20, "seconds": 4.0, "loss": 5.0, "content relu4_2": 5.0}
    step = Step.of(row, 100, 0.2, 16.0, lambda: None)
    assert (step.rate, step.eta, step.terms) == (5.0, 16.0, {"content relu4_2": 5.0})
    assert str(step) == "iteration 20/100  loss 5  5.00 it/s  16 s to go"
    slow = Step.of({**row, "seconds": 4000.0}, 100, 0.2, 16.0, lambda: None)
    assert "  200 s/it  " in str(slow)


def test_every_row_is_told_with_the_image_as_it_is():
    seen = []
    run(Bowl(), 3, lambda row, image: seen.append((row["iteration"], image[0, 0, 0, 0].item())))
    assert [iteration for iteration, _ in seen] == [1, 2, 3]
    assert [value for _, value in seen] == pytest.approx([0.8, 0.64, 0.512])


def test_on_a_gpu_too_the_host_tells_every_image_that_it_sees(pretended_gpu):
    engine = Bowl()
    engine.name = "reference"  # of which it is expected
    image = torch.ones(1, 3, 2, 2).as_subclass(pretended_gpu)
    seen = []

    def tell(row):
        seen.append(image[0, 0, 0, 0].item())

    optimize(engine, image, Descent(image), 8, Trace(best=image.clone()), tell)
    assert seen == pytest.approx([0.8**i for i in range(1, 9)])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_term_that_is_not_finite_stops_the_run_by_name(value):
    with pytest.raises(NonFinite, match="'style relu1_1' became NaN or infinite at iteration 3"):
        run(Bowl(spoil={3: ("term", value)}))


def test_a_gradient_that_is_not_finite_stops_the_run():
    with pytest.raises(NonFinite, match="the gradient became NaN or infinite at iteration 2"):
        run(Bowl(spoil={2: ("gradient", float("nan"))}))


def test_what_was_good_before_is_still_there():
    image = torch.ones(1, 3, 2, 2)
    trace = Trace(best=image.clone())
    with pytest.raises(NonFinite) as error:
        optimize(
            Bowl(spoil={4: ("term", float("nan"))}),
            image,
            Descent(image),
            10,
            trace,
        )
    assert error.value.iteration == 4
    assert trace.best_iteration == 3
    assert trace.best.isfinite().all()


class Recovering(Descent):
    """Keeps the best image, and stays where it is where a loss is not finite."""

    def __init__(self, image):
        super().__init__(image)
        self.best_image, self.best_loss = image.clone(), torch.tensor(float("inf"))
        self.rollbacks = torch.tensor(0)

    def step(self, gradient, loss):
        if not loss.isfinite():
            self.rollbacks += 1
            return
        if loss <= self.best_loss:
            self.best_loss = loss
            self.best_image.copy_(self.image)
        super().step(gradient, loss)

    def reset_best(self):
        self.best_loss = torch.tensor(float("inf"))


def test_an_optimizer_that_recovers_is_given_the_chance():
    image = torch.ones(1, 3, 2, 2)
    trace = Trace(best=image.clone())
    engine = Bowl(spoil={4: ("term", float("nan")), 5: ("term", float("inf"))})
    optimize(engine, image, Recovering(image), 10, trace)
    assert len(trace.rows) == 10
    assert trace.best_iteration == 10


def test_but_not_for_ever():
    image = torch.ones(1, 3, 2, 2)
    trace = Trace(best=image.clone())
    engine = Bowl(spoil={i: ("term", float("nan")) for i in range(4, 11)})
    with pytest.raises(NonFinite) as error:
        optimize(engine, image, Recovering(image), 10, trace)
    assert error.value.iteration == 7
    assert trace.best_iteration == 3


def test_and_not_before_there_is_a_good_image():
    image = torch.ones(1, 3, 2, 2)
    engine = Bowl(spoil={1: ("term", float("nan"))})
    with pytest.raises(NonFinite, match="at iteration 1"):
        optimize(engine, image, Recovering(image), 10, Trace(best=image.clone()))

"""The iteration that the device repeats by itself, against the same steps made one by one."""

from contextlib import contextmanager, nullcontext

import pytest
import torch

from stylebench.optim.adam import Adam
from stylebench.optim.lbfgs import LBFGS
from stylebench.optim.torch_optimizers import TorchAdam, TorchLBFGS
from stylebench.transfer.settings import Settings
from stylebench.transfer.stepper import (
    LOG_ROWS,
    WARMUP_STEPS,
    GraphStepper,
    HostStepper,
    make_stepper,
)

from .problems import problem_of

OPTIMIZERS = {"lbfgs": lambda x: LBFGS(x, history=3), "adam": lambda x: Adam(x, lr=0.05)}
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


def posed(photo, painting, size=48, **more):
    settings = Settings(weights="random", size=size, engine="fused", **more)
    return problem_of(photo, painting, settings)


def by_hand(problem, make, count):
    """Image, losses: the plain loop that every other is to equal."""
    image = problem.image.clone()
    optimizer = make(image)
    losses = []
    for _ in range(count):
        terms, gradient = problem.engine.loss_and_grad(image)
        losses.append(dict(zip(terms.names, terms.values.tolist(), strict=True)))
        optimizer.step(gradient, terms.total)
    return image, losses


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_it_is_evaluate_and_step_repeated(photo, painting, make):
    problem = posed(photo, painting, device="cpu")
    expected, losses = by_hand(problem, make, 6)
    image = problem.image.clone()
    iteration = GraphStepper(problem.engine, make(image), image)
    iteration.advance(1)
    rows = iteration.read()
    iteration.advance(3)
    iteration.advance(2)
    rows += iteration.read()
    assert torch.equal(image, expected)
    assert [row.terms for row in rows] == losses
    assert all(row.finite for row in rows)
    assert iteration.read() == []


class Counter:
    """An engine whose loss is the number of its evaluations, not finite where told."""

    name = "counter"

    def __init__(self, spoiled=()):
        self.count, self.spoiled = 0, spoiled

    def loss_and_grad(self, image):
        from stylebench.engines import LossTerms

        self.count += 1
        gradient = torch.full_like(image, 1.0 if self.count not in self.spoiled else float("nan"))
        return LossTerms(("count",), torch.tensor([float(self.count)])), gradient


def test_the_log_goes_round():
    image = torch.zeros(1, 3, 2, 2)
    iteration = GraphStepper(Counter(), Adam(image, lr=0.1), image)
    seen = []
    for count in (LOG_ROWS - 1, 3, LOG_ROWS):
        iteration.advance(count)
        seen += [row.terms["count"] for row in iteration.read()]
    assert seen == list(range(1, 2 * LOG_ROWS + 3))


def test_what_was_rolled_back_says_so():
    image = torch.zeros(1, 3, 2, 2)
    iteration = GraphStepper(Counter(spoiled=(2, 5)), Adam(image, lr=0.1), image)
    iteration.advance(3)
    finite = [row.finite for row in iteration.read()]
    iteration.advance(3)
    finite += [row.finite for row in iteration.read()]
    assert finite == [True, False, True, True, False, True]


def test_the_optimizer_decides_who_repeats():
    image = torch.zeros(1, 3, 2, 2)
    for make in OPTIMIZERS.values():
        assert isinstance(make_stepper(Counter(), make(image), image), GraphStepper)
    for optimizer in (TorchLBFGS(image), TorchAdam(image, 0.1)):
        assert isinstance(make_stepper(Counter(), optimizer, image), HostStepper)


def test_a_gpu_that_waits_for_the_host_says_so(pretended_gpu):
    image = torch.zeros(1, 3, 2, 2).as_subclass(pretended_gpu)
    with pytest.warns(UserWarning, match="'counter' waits for the host at every iteration"):
        assert isinstance(make_stepper(Counter(), TorchLBFGS(image), image), HostStepper)


def test_the_best_image_is_the_evaluated_one(photo, painting):
    problem = posed(photo, painting, device="cpu")
    image = problem.image.clone()
    iteration = GraphStepper(problem.engine, LBFGS(image, history=5), image)
    iteration.advance(8)
    best = min(row.loss for row in iteration.read())
    again, _ = problem.engine.loss_and_grad(iteration.best_image)
    assert again.total.item() == pytest.approx(best, rel=1e-6)


class Pretended:
    """CUDA's streams and graphs without CUDA: what is captured runs, and ``asked`` says how."""

    def __init__(self, monkeypatch):
        self.asked = []
        for name in ("stream", "device"):
            monkeypatch.setattr(torch.cuda, name, lambda _: nullcontext())
        monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)

    @contextmanager
    def graph(self, graph, **options):
        self.asked.append(options)
        try:
            yield
        except SyntaxError:
            raise RuntimeError("operation failed due to a previous error during capture") from None


def ready_to_capture(engine, image):
    iteration = GraphStepper(engine, Adam(image, lr=0.1), image)
    iteration.advance(WARMUP_STEPS)
    iteration._capture, iteration._stream = True, "its own"
    return iteration


def test_a_graph_is_captured_on_the_images_device_and_for_this_thread(monkeypatch):
    """torch's own stream for it belongs to the device of the first capture in the process."""
    pretended = Pretended(monkeypatch)
    image = torch.zeros(1, 3, 2, 2)
    ready_to_capture(Counter(), image)._captured()
    (asked,) = pretended.asked
    assert asked == {"stream": "its own", "capture_error_mode": "thread_local"}


def test_whatever_stops_a_capture_iterations_go_on_one_by_one(monkeypatch):
    Pretended(monkeypatch)
    image = torch.zeros(1, 3, 2, 2)
    engine = Counter()
    iteration = ready_to_capture(engine, image)

    def does_not_compile(image):
        raise SyntaxError("no such instruction")

    working, engine.loss_and_grad = engine.loss_and_grad, does_not_compile
    with pytest.warns(UserWarning, match=r"cannot be captured .* \(no such instruction\)"):
        assert iteration._captured() is None
    engine.loss_and_grad = working
    iteration._stream = None
    iteration.advance(2)
    assert [row.terms["count"] for row in iteration.read()] == [1, 2, 3, 4, 5]


@cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_each_gpu_has_its_graph(photo, painting):
    images = []
    for device in ("cuda:0", "cuda:1"):
        problem = posed(photo, painting, device=device)
        image = problem.image.clone()
        iteration = GraphStepper(problem.engine, Adam(image, lr=0.05), image)
        iteration.advance(12)
        assert iteration.captured
        assert len(iteration.read()) == 12
        images.append(image.cpu())
    torch.testing.assert_close(*images)


@cuda
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("engine", ["fused", "eager"])
def test_replaying_a_graph_changes_no_bit(photo, painting, make, engine):
    settings = Settings(weights="random", size=96, engine=engine, device="cuda")
    problem = problem_of(photo, painting, settings)
    runs = []
    for capture in (False, True):
        image = problem.image.clone()
        iteration = GraphStepper(problem.engine, make(image), image, capture)
        iteration.advance(25)
        runs.append((iteration.read(), image, iteration.best_image.clone()))
        assert iteration.captured is capture
    (plain_rows, *plain), (graph_rows, *graph) = runs
    assert plain_rows == graph_rows
    assert all(torch.equal(a, b) for a, b in zip(plain, graph, strict=True))


@cuda
def test_two_graphs_in_turn_keep_apart(photo, painting):
    problems = [posed(photo, painting, size=size, device="cuda") for size in (96, 61)]
    expected = [by_hand(problem, OPTIMIZERS["lbfgs"], 12)[0] for problem in problems]
    images = [problem.image.clone() for problem in problems]
    iterations = [
        GraphStepper(problem.engine, OPTIMIZERS["lbfgs"](image), image)
        for problem, image in zip(problems, images, strict=True)
    ]
    for _ in range(12):
        for iteration in iterations:
            iteration.advance(1)
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(images, expected, strict=True))

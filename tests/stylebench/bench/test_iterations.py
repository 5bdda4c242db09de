"""What is timed is what runs: a full history, and the very iteration that was proven."""

import pytest

from stylebench.artwork import landscape, painting
from stylebench.bench.iterate import Walk
from stylebench.bench.parts import parts
from stylebench.problem import pose
from stylebench.settings import Settings
from stylekernels.lbfgs_state import COUNT


def walk(engine="fused", history=8, **more):
    settings = Settings(
        weights="random", size=32, device="cpu", engine=engine, precision="fp32", history=history,
        **more,
    )  # fmt: skip
    return Walk(pose(landscape(32, 24), painting(32, 24), settings), settings)


def pairs(walk):
    if hasattr(walk.optimiser, "state_dict"):
        return int(walk.optimiser.state_dict()["ring"][COUNT])
    (state,) = walk.optimiser._optimizer.state.values()
    return len(state["old_dirs"])


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_a_settled_walk_has_its_history_full(engine):
    settled, brief = walk(engine), walk(engine)
    settled.settle()
    assert pairs(settled) == 8
    brief.settle(most=2)
    assert 2 <= pairs(brief) < 8


def test_parts_are_of_the_walk_that_was_timed():
    settled = walk()
    settled.settle()
    before = settled.image.clone()
    found = parts(settled, 2.0)
    assert sum(found.values()) == pytest.approx(2.0)
    assert found["optimiser"] > 0.0
    assert not settled.image.equal(before)  # it went on, and no other in its place
    assert pairs(settled) == 8

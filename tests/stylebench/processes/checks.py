"""Run by several processes together: each check computes something, and rank 0 keeps it.

python checks.py FOLDER
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from stylebench import Keep, Settings, style_transfer
from stylebench.engines.tiled import TILED
from stylebench.image.synthetic import landscape, painting
from stylebench.model.precision import PRECISIONS
from stylebench.model.presets import PRESETS
from stylebench.model.tiles import UNCUT, Tiling, unit_of
from stylebench.model.vgg import VGG19
from stylebench.model.weights import random_weights
from stylebench.optim.lbfgs import LBFGS
from stylebench.optim.spectral import SpectralPreconditioner
from stylebench.processes.bands import bands_of
from stylebench.processes.ranks import ALONE, Group
from stylebench.transfer.result import result_of

SHALLOW = replace(
    PRESETS["gatys-pytorch"],
    style_layers={"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0},
    content_layers={"conv2_2": 1.0, "pool1": 1.0},
    tv_weight=1e-3,
)
DEEP = replace(PRESETS["gatys-pytorch"], style_layers={"relu4_1": 1.0, "pool5": 1.0})
#: Name -> engine, preset, precision, size, size of the style, tiles.
ENGINES = {
    "fused": ("fused", SHALLOW, "fp64", (61, 54), (70, 40), Tiling(8, 12)),
    "fused, not cut": ("fused", SHALLOW, "fp64", (61, 54), (70, 40), UNCUT),
    "fused, a low style": ("fused", SHALLOW, "fp64", (50, 33), (20, 24), Tiling(16)),
    "reference": ("reference", SHALLOW, "fp64", (61, 54), (70, 40), Tiling(8, 12)),
    "eager": ("eager", SHALLOW, "fp64", (61, 54), (70, 40), UNCUT),
    "average pooling": (
        "fused", replace(SHALLOW, pooling="average"), "fp64", (48, 40), (49, 40), Tiling(8)
    ),
    "total variation of squares": (
        "fused", replace(SHALLOW, tv_kind="l2"), "fp64", (48, 40), (49, 40), UNCUT
    ),
}  # fmt: skip
DEEP_ENGINES = {"five blocks": ("fused", DEEP, "fp64", (109, 40), (100, 48), UNCUT)}
QUICK = Settings(
    weights="random", size=66, iterations=10, precision="fp32", device="cpu", scales=None,
    engine="fused", content_layers="relu2_1", style_layers=["relu1_1", "relu2_1"], tv_weight=1e-3,
)  # fmt: skip
#: Name -> settings of runs that one process makes as well.
RUNS = {
    "lbfgs": replace(QUICK, precision="fp64"),
    # Rounding has the say soon: after four iterations the picture of one process in tiles is 1e-5
    # from the whole one's, and that 1e-2 from fp64's. Winograd's is another where a band begins
    # elsewhere.
    "lbfgs in fp32": replace(QUICK, precision="fp32-direct", iterations=3),
    # In fp32 Adam takes a whole step by the sign of a gradient that is but rounding.
    "adam": replace(QUICK, optimizer="adam", precision="fp64"),
    "coarse to fine from noise": replace(
        QUICK,
        precision="fp64",
        scales={24: 2, 48: 2},
        iterations=3,
        init="noise",
        preset="gatys-pytorch",
    ),
    "style, normalized": replace(
        QUICK, init="style", normalize=True, iterations=4, optimizer="adam", engine="reference"
    ),
    "polished": replace(QUICK, precision="bf16", iterations=4, polish=2),
}
CONTENT, STYLE = landscape(66, 50), painting(60, 70)


def problem(case):
    """Network, objective, pictures and precision of a case of ``ENGINES``."""
    _, preset, precision, size, of_style, _ = case
    dtype = PRECISIONS[precision].wide
    network = VGG19(random_weights(), preset.deepest_layer, preset.pooling).to(dtype)
    generator = torch.manual_seed(0)
    content, style, image = (
        60 * torch.randn(1, 3, *sides, generator=generator, dtype=dtype)
        for sides in (size, of_style, size)
    )
    bound = network, preset.objective(*size), content, [style], [1.0], PRECISIONS[precision]
    return bound, image


def evaluated(case, ranks=ALONE):
    """Loss terms and the whole gradient, of an engine that the ranks have bound together."""
    bound, image = problem(case)
    unit = unit_of(bound[0].layers)  # which the engine takes apart
    engine = TILED[case[0]](*bound, case[-1], ranks=ranks)
    bands = bands_of(ranks, image.shape[2], unit)
    terms, gradient = engine.loss_and_grad(bands.own(image))
    again, same = engine.loss_and_grad(bands.own(image))
    assert torch.equal(terms.values, again.values)
    assert torch.equal(gradient, same)
    return terms.values, bands.whole(gradient)


def filtered(ranks=ALONE):
    """A gradient through the preconditioner."""
    whole = torch.randn(1, 3, 50, 31, dtype=torch.float64, generator=torch.manual_seed(0))
    bands = bands_of(ranks, 50)
    own = bands.own(whole)
    return bands.whole(SpectralPreconditioner(own, bands)(own))


def stepped(ranks=ALONE):
    """An image after steps of L-BFGS down a quadratic, the third of which leads to NaN."""
    whole = torch.randn(1, 3, 50, 31, dtype=torch.float64, generator=torch.manual_seed(0))
    slopes = torch.rand(1, 3, 50, 31, dtype=torch.float64, generator=torch.manual_seed(1)) + 0.1
    bands = bands_of(ranks, 50)
    image, own = bands.own(whole).clone(), bands.own(slopes)
    optimizer = LBFGS(image, history=4, level=0.01, ranks=bands.ranks)
    for step in range(8):
        gradient = own * image
        if step == 3 and ranks.rank == ranks.size - 1:
            gradient[..., -1, -1] = float("nan")
        loss = ranks.sum((own * image.square()).sum())
        optimizer.step(gradient, loss)
    return bands.whole(image), optimizer.rollbacks


def run(settings, **more):
    """A run's losses and picture."""
    result = style_transfer(CONTENT, STYLE, settings, reuse=False, **more)
    return [row["loss"] for row in result.history], result.rgb


def ended(**more):
    """How a run ends that is not to succeed: the error's class, its line, and its picture."""
    settings = replace(QUICK, distributed=True, iterations=4)
    arguments = {"content": CONTENT, "style": STYLE, "settings": settings, "reuse": False} | more
    try:
        style_transfer(**arguments)
    except BaseException as error:
        kept = result_of(error)
        return type(error).__name__, str(error), None if kept is None else kept.rgb.shape
    return "done", "", None


def raising_at(iteration):
    def callback(step):
        if step.iteration == iteration:
            raise KeyError("a callback's own")

    return callback


def failures(ranks, folder):
    """Runs that end by one of the ranks alone, or that none of them can make."""
    last = ranks.rank == ranks.size - 1

    def spoil(problem):
        if last:
            problem.engine.targets.content["relu2_1"].fill_(float("nan"))

    def break_engine(problem):
        def broken(image):
            raise RuntimeError("a GPU fell off the bus")

        if last:
            problem.engine.loss_and_grad = broken

    return {
        "bad input": ended(content=folder / "none.png" if last else CONTENT),
        "another picture": ended(content=landscape(66, 50, seed=3) if last else CONTENT),
        "another rhythm": ended(sync_every=2 if last else 3),
        "nan": ended(on_start=spoil),
        "callback": ended(callback=raising_at(3) if last else None),
        "too low": ended(settings=replace(QUICK, distributed=True, size=20)),
        "tolerances": ended(settings=replace(QUICK, distributed=True, tolerance_grad=1e-3)),
        "picture": ended(callback=lambda step: step.picture(), sync_every=2),
        "afterwards": ended(),
        "engine": ended(on_start=break_engine),  # the last: the others wait until its process ends
    }


def pictures(ranks):
    """The previews of a run, as rank 0 sees them."""
    seen = {}

    def callback(step):
        if step.iteration % 2 == 0:
            seen[step.iteration] = np.asarray(step.picture())

    settings = replace(QUICK, distributed=True, iterations=4)
    style_transfer(CONTENT, STYLE, settings, callback, sync_every=2)
    return {iteration: picture.shape for iteration, picture in seen.items()}


def main(folder, deep):
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    ranks, results = Group(None, torch.device("cpu")), {}
    if deep:
        results = {name: evaluated(case, ranks) for name, case in DEEP_ENGINES.items()}
    else:
        results = {name: evaluated(case, ranks) for name, case in ENGINES.items()}
        results |= {"filtered": filtered(ranks), "stepped": stepped(ranks)}
        for name, settings in RUNS.items():
            results[name] = run(replace(settings, distributed=True))
        shared = replace(RUNS["lbfgs"], distributed=True)
        again = replace(RUNS["lbfgs in fp32"], distributed=True)
        results["lbfgs in fp32 again"] = run(again)
        keep, alone = folder / "own.safetensors", folder / "alone.safetensors"
        run(replace(shared, iterations=5), keep=Keep(keep, 5))
        results["gone on"] = run(shared, resume=keep)
        results["from one"] = run(shared, resume=alone)
        results["pictures"] = pictures(ranks)
        results |= failures(ranks, folder)
    torch.save(results, folder / f"results-{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), deep=len(sys.argv) > 2)

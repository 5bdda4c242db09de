"""A folder with a photo and a painting, and the command line within this process."""

import sys
import warnings

import pytest

from stylebench import signals
from stylebench.cli.app import main


@pytest.fixture
def folder(tmp_path, photo, painting, monkeypatch):
    photo.save(tmp_path / "photo.png")
    painting.save(tmp_path / "painting.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main replaces it
        monkeypatch.setattr(signals, "_state", signals._State())  # no signal has come yet
        monkeypatch.setattr(sys, "argv", ["stylebench", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return run

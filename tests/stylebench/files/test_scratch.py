"""Temporary folders end with their block, or are cleared by the next run where that died."""

import os
import signal
import subprocess
import sys

import pytest

from stylebench.files.scratch import scratch_folder

HOLD = """
import sys, time
from pathlib import Path
from stylebench.files.scratch import scratch_folder
with scratch_folder(".pictures-", Path(sys.argv[1])) as folder:
    (folder / "a.png").write_bytes(b"png")
    print(folder.name, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another run that holds a folder, and that folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        yield process, tmp_path / process.stdout.readline().strip()
        process.kill()


def test_a_folder_ends_with_its_block(tmp_path):
    def interrupted():
        with scratch_folder(".pictures-", tmp_path) as folder:
            (folder / "a.png").write_bytes(b"png")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_living_runs_folder_is_left_and_a_dead_ones_cleared(tmp_path, other):
    process, folder = other
    with scratch_folder(".pictures-", tmp_path):
        assert (folder / "a.png").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / "a.png").exists()
    with scratch_folder(".pictures-", tmp_path) as own:
        assert list(tmp_path.iterdir()) == [own]


def test_without_locks_there_are_folders_and_none_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr("stylebench.files.scratch.try_lock", lambda _: None)
    (tmp_path / ".pictures-old").mkdir()
    with scratch_folder(".pictures-", tmp_path) as folder:
        assert folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [".pictures-old"]


def test_nothing_else_is_cleared(tmp_path):
    (tmp_path / ".pictures-file").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".pictures-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pictures-2").mkdir()
    names = sorted(path.name for path in tmp_path.iterdir())
    with scratch_folder(".pictures-", tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_left(tmp_path):
    (tmp_path / ".pictures-theirs").mkdir()
    os.chown(tmp_path / ".pictures-theirs", 65534, 65534)
    with scratch_folder(".pictures-", tmp_path):
        pass
    assert (tmp_path / ".pictures-theirs").is_dir()

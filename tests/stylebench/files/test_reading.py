"""Reading: ordinary files alone, of a size that is known before they are read."""

import os
import socket
from pathlib import Path

import pytest

from stylebench.files.paths import FileError
from stylebench.files.reading import check_file, read_file


@pytest.fixture
def kinds(tmp_path):
    """Paths by what they are."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(b"12345")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(60 * 10**9)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    names = ("pipe", "link", "folder", "empty", "large", "sparse", "socket", "loop", "absent")
    return {name: tmp_path / name for name in names} | {
        "device": Path("/dev/zero"),
        "null byte": tmp_path / "a\0b",
        "below a file": tmp_path / "large" / "file",
        "long": tmp_path / ("n" * 300),
    }


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pipe", "is a named pipe, expected a note"),
        ("link", "is a named pipe"),
        ("folder", "is a folder"),
        ("socket", "is a socket"),
        ("device", "is a device"),
        ("empty", "is empty"),
        ("large", "has 5 bytes, more than the 4 bytes that a note may have"),
        ("sparse", "has 57220 MiB, more than the 4 bytes"),
        ("loop", "cannot be read"),
        ("absent", "no such file"),
        ("below a file", "no such file"),
        ("null byte", "cannot be read"),
        ("long", "cannot be read"),
    ],
)
@pytest.mark.parametrize("refuse", [check_file, read_file])
def test_what_is_no_ordinary_file_is_refused_unread(kinds, kind, message, refuse):
    with pytest.raises(FileError, match=message) as error:
        refuse(kinds[kind], 4, "a note")
    assert "\n" not in str(error.value)


def test_a_file_is_read_whole(tmp_path):
    (tmp_path / "note").write_bytes(b"1234")
    assert read_file(tmp_path / "note", 4, "a note") == b"1234"


def test_a_file_that_grows_is_not_read_without_end(tmp_path, monkeypatch):
    (tmp_path / "note").write_bytes(b"12345")
    monkeypatch.setattr("stylebench.files.reading.check_file", lambda *args: None)
    with pytest.raises(FileError, match="grows while it is read"):
        read_file(tmp_path / "note", 4, "a note")

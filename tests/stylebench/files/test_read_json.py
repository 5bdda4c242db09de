"""JSON from ordinary files alone, and every fault in one line that names the file."""

import os

import pytest

from stylebench.files.paths import FileError
from stylebench.files.reading import read_json


def pipe(path):
    os.mkfifo(path)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(60 * 10**9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder, expected a record"),
        (pipe, "is a named pipe, expected a record"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, expected a record"),
        (sparse, "more than the 1 MiB that a record may have"),
        (lambda path: path.write_bytes(b""), "is empty, expected a record"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read as JSON"),
        (lambda path: path.write_text("["), "cannot be read as JSON"),
        (lambda path: path.write_text("[" * 100_000), "cannot be read as JSON"),
        (
            lambda path: path.write_text("1" * 5000),
            "cannot be read as JSON (an integer of more than 4300 digits)",
        ),
    ],
)
def test_what_is_no_json_file_is_named(tmp_path, make, message):
    path = tmp_path / "a.json"
    make(path)
    with pytest.raises(FileError) as refused:
        read_json(path, 2**20, "a record")
    assert str(refused.value).startswith(f"{path}: ")
    assert message in str(refused.value)


def test_what_is_one_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null]}')
    assert read_json(tmp_path / "a.json", 2**20, "a record") == {"a": [1, 2.5, None]}

"""The file of a checkpoint: whatever is in it, or is there in its place, is one line."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from stylebench import CheckpointError, Keep, Settings, style_transfer
from stylebench.files.from_dict import from_dict
from stylebench.transfer import checkpoint as module
from stylebench.transfer.checkpoint import Checkpoint

from .problems import SHALLOW

QUICK = {
    "weights": "random", "device": "cpu", "size": 32, "iterations": 3, "engine": "fused",
    "precision": "fp32", "history": 4, **SHALLOW,
}  # fmt: skip
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def written(photo, painting, tmp_path_factory):
    """The checkpoint of a finished run, a file."""
    path = tmp_path_factory.mktemp("checkpoint") / "run.safetensors"
    style_transfer(photo, painting, Settings(**QUICK), keep=Keep(path))
    return path


@pytest.fixture
def parts(written):
    """Its header and its tensors, to be changed."""
    with safe_open(written, "pt") as file:
        header = json.loads(file.metadata()["stylebench"])
        return header, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def write(path, header, tensors, sign=False):
    """Write a checkpoint of these parts, with a hash that fits them where it is to be signed."""
    if sign:
        unsigned = from_dict(module._Header, {**header, "sha256": ""})
        header = {**header, "sha256": module._hash(unsigned, tensors)}
    save_file(tensors, path, {"stylebench": json.dumps(header)})
    return path


def refused(path):
    """The message of a checkpoint that cannot be read."""
    with pytest.raises(CheckpointError) as error:
        Checkpoint.load(path)
    line = str(error.value)
    assert line.startswith(str(path))
    assert line.isprintable()
    assert len(line) < len(str(path)) + 250
    return line


def test_what_was_written_is_read(written, tmp_path, parts):
    assert len(Checkpoint.load(written).rows) == 3
    assert len(Checkpoint.load(write(tmp_path / "x", *parts, sign=True)).rows) == 3


MISSING = object()
FIELDS = {
    "phase": [MISSING, -1, 1, 2**70, 10**400, 1.0, "0", None, True],
    "phase_began": [MISSING, -1, 1, 3, "0"],
    "columns": [MISSING, [], "abc", [1], ["iteration"], ["iteration", "seconds", "loss"], None],
    "best_loss": [MISSING, NAN, INF, "low", None, 1e300],
    "best_iteration": [MISSING, 0, -1, 4, 2**70, 1.5, None],
    "identity": [MISSING, None, [], "abc"],
    "inputs": [MISSING, None, {"content": 3}, {"content": "\ud800"}],
    "sha256": [MISSING, "0" * 64, "", 3],
    "convolutions": [MISSING, None, {"a": "b"}, {"a": {"b": 3}}],
    "version": [MISSING, "6", None, 6.0, 10**30, -1],
    "more": [1],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in FIELDS.items() for value in values],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
)
def test_a_header_with_another_field_is_refused(parts, tmp_path, name, value):
    header, tensors = parts
    if value is MISSING:
        del header[name]
    else:
        header[name] = value
    refused(write(tmp_path / "x", header, tensors))


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "null", "[" * 100_000, '{"a":' * 900])
def test_a_header_that_is_none_is_refused(parts, tmp_path, text):
    save_file(parts[1], tmp_path / "x", {"stylebench": text})
    refused(tmp_path / "x")


def test_a_deep_identity_is_refused(parts, tmp_path):
    header, tensors = parts
    for _ in range(500):
        header["identity"] = {"a": header["identity"]}
    refused(write(tmp_path / "x", header, tensors))


def value(name, place, number):
    def change(tensors):
        tensors[name].view(-1)[place] = number

    return change


def become(name, make):
    def change(tensors):
        tensors[name] = make(tensors[name])

    return change


#: Changes of tensors that are refused by themselves, with a hash that fits.
TENSORS = {
    "no image": lambda tensors: tensors.pop("image"),
    "no start": lambda tensors: tensors.pop("start"),
    "no rows": lambda tensors: tensors.pop("rows"),
    "one more": lambda tensors: tensors.update(more=torch.zeros(1)),
    "a NaN in the image": value("image", 5, NAN),
    "an infinity in the start": value("start", 5, INF),
    "an image of whole numbers": become("image", lambda image: image.int()),
    "an image in half precision": become("image", lambda image: image.half()),
    "an image without a batch": become("image", lambda image: image[0]),
    "an image of two channels": become("image", lambda image: image[:, :2].contiguous()),
    "an image of another size": become("image", lambda image: image[..., :-1].contiguous()),
    "an empty image": become("image", lambda image: image[..., :0].contiguous()),
    "no row": become("rows", lambda rows: rows[:0]),
    "a row that is too short": become("rows", lambda rows: rows[:, :-1].contiguous()),
    "rows of a vector": become("rows", lambda rows: rows.reshape(-1)),
    "rows in single precision": become("rows", lambda rows: rows.float()),
    "a row less": become("rows", lambda rows: rows[:1].contiguous()),
    "rows that are counted from 2": become("rows", lambda rows: rows + 1),
    "seconds that fall": value("rows", 1, 1e9),
    "seconds before 0": value("rows", 1, -1.0),
    "seconds that are NaN": value("rows", 1, NAN),
}


@pytest.mark.parametrize("change", TENSORS.values(), ids=TENSORS)
def test_tensors_that_cannot_be_are_refused(parts, tmp_path, change):
    header, tensors = parts
    change(tensors)
    assert "its hash is another" not in refused(write(tmp_path / "x", header, tensors, sign=True))


@pytest.mark.parametrize("name", ["image", "start", "rows", "optimizer.history", "optimizer.best"])
def test_a_changed_value_is_refused(parts, tmp_path, name):
    header, tensors = parts
    tensors[name].view(-1)[-1] += 0.5
    assert "its hash is another" in refused(write(tmp_path / "x", header, tensors))


def test_a_changed_setting_is_refused(parts, tmp_path):
    header, tensors = parts
    header["identity"]["style_weight"] = 5.0
    assert "its hash is another" in refused(write(tmp_path / "x", header, tensors))


#: Changes of the optimizer's tensors, which it refuses itself, with a hash that fits.
OPTIMIZER = {
    "one is missing": lambda tensors: tensors.pop("optimizer.gram"),
    "one is unknown": lambda tensors: tensors.update({"optimizer.more": torch.zeros(1)}),
    "another shape": become("optimizer.history", lambda history: history[1:].contiguous()),
    "another type": become("optimizer.history", lambda history: history.double()),
    "a head outside": value("optimizer.ring", 0, 5),
    "a head before": value("optimizer.ring", 0, -1),
    "too many pairs": value("optimizer.ring", 1, 5),
    "more pairs than gradients": value("optimizer.ring", 2, 0),
    "rollbacks below 0": value("optimizer.ring", 3, -1),
    "an unknown action": value("optimizer.ring", 4, 9),
    "a NaN in the best image": value("optimizer.best", 0, NAN),
    "a NaN in a pair": value("optimizer.history", 0, NAN),
    "an infinity in the products": value("optimizer.gram", 0, INF),
    "a learning rate of NaN": value("optimizer.scalars", 2, NAN),
    "a learning rate below 0": value("optimizer.scalars", 2, -1.0),
}


@pytest.mark.parametrize("change", OPTIMIZER.values(), ids=OPTIMIZER)
def test_an_optimizer_that_cannot_be_is_refused(parts, tmp_path, photo, painting, change):
    header, tensors = parts
    change(tensors)
    path = write(tmp_path / "x", header, tensors, sign=True)
    with pytest.raises(CheckpointError, match="is of another optimizer"):
        style_transfer(photo, painting, Settings(**QUICK), resume=path)


def test_an_image_of_another_size_than_the_runs_is_refused(parts, tmp_path, photo, painting):
    header, tensors = parts
    for name in ("image", "start"):
        tensors[name] = tensors[name][..., :1, :1].contiguous()
    path = write(tmp_path / "x", header, tensors, sign=True)
    with pytest.raises(CheckpointError, match=r"image is \(1, 3, 1, 1\) torch.float32, and this"):
        style_transfer(photo, painting, Settings(**QUICK), resume=path)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(4 * 10**12)


FOREIGN = (
    "another kind of file, or damaged; give the file that --checkpoint wrote, or leave --resum"
)
FILES = {
    "nothing": (lambda path: None, "no such file"),
    "a folder": (Path.mkdir, "is a folder"),
    "a pipe": (os.mkfifo, "is a named pipe"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "a sparse file": (sparse, "that a checkpoint may have"),
    "an empty file": (Path.touch, "is empty"),
    "a text": (lambda path: path.write_text("hello, this is a text"), FOREIGN),
    "zeros": (lambda path: path.write_bytes(bytes(1000)), FOREIGN),
    "weights": (lambda path: save_file({"x": torch.zeros(1)}, path), "no header of stylebench"),
}


@pytest.mark.parametrize(("make", "message"), FILES.values(), ids=FILES)
def test_what_is_no_checkpoint_is_named(tmp_path, make, message):
    make(tmp_path / "x")
    assert message in refused(tmp_path / "x")


@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_a_truncated_file_is_refused(written, tmp_path, share):
    data = written.read_bytes()
    (tmp_path / "x").write_bytes(data[: int(share * len(data))])
    refused(tmp_path / "x")


def test_another_version_is_told_from_a_broken_file(parts, tmp_path):
    header, tensors = parts
    line = refused(write(tmp_path / "x", {**header, "version": 7}, tensors))
    assert "is a checkpoint of version 7, expected 8: take it up with the stylebench" in line


def test_nothing_is_written_before_the_first_iteration(written, tmp_path):
    read = Checkpoint.load(written)
    before = Checkpoint(**{**vars(read), "rows": []})
    with pytest.raises(CheckpointError, match="nothing to write before the first iteration"):
        before.save(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(written, tmp_path):
    with pytest.raises(CheckpointError, match="absent/x: cannot be written"):
        Checkpoint.load(written).save(tmp_path / "absent" / "x")

"""Runs that are put down and taken up again: no bit differs, and no other run is gone on with."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from stylebench import CheckpointError, Interrupted, Keep, Settings, style_transfer
from stylebench.engines.fused import cpu_convolution
from stylebench.engines.fused.choices import forget
from stylebench.transfer.checkpoint import Checkpoint
from stylekernels.native import has_native_code

from .problems import SHALLOW, WHOLE

QUICK = {
    "weights": "random", "device": "cpu", "size": 32, "iterations": 9, "engine": "fused", **SHALLOW
}  # fmt: skip


def stopping_at(iteration):
    def callback(step):
        if step.iteration == iteration:
            raise KeyboardInterrupt

    return callback


def put_down(photo, painting, settings, path, at):
    with pytest.raises(Interrupted):
        style_transfer(photo, painting, settings, stopping_at(at), keep=Keep(path, 2))


@pytest.mark.parametrize(
    ("more", "at"),
    [
        pytest.param({}, 5, id="lbfgs"),
        pytest.param(WHOLE, 5, id="the whole network", marks=pytest.mark.slow),
        pytest.param({"optimizer": "adam"}, 5, id="adam"),
        pytest.param({"precision": "bf16"}, 5, id="bf16", marks=pytest.mark.slow),
        pytest.param(
            {"precision": "bf16", "polish": 4}, 8, id="in its polish", marks=pytest.mark.slow
        ),
        pytest.param(
            {"precision": "bf16", "polish": 4}, 5, id="before its polish", marks=pytest.mark.slow
        ),
        pytest.param({"scales": {24: 3, 32: 3}, "size": 48}, 5, id="in a scale"),
        pytest.param({"scales": {24: 3, 32: 3}, "size": 48, "init": "noise"}, 9, id="in the last"),
    ],
)
def test_a_run_that_was_put_down_ends_with_the_same_bits(photo, painting, tmp_path, more, at):
    settings = Settings(**{**QUICK, "precision": "fp32", **more})
    whole = style_transfer(photo, painting, settings)
    path = tmp_path / "run.safetensors"
    put_down(photo, painting, settings, path, at)
    assert at - 2 < len(Checkpoint.load(path).rows) <= at
    resumed = style_transfer(photo, painting, settings, resume=path)
    assert torch.equal(resumed.rgb, whole.rgb)
    terms = [name for name in whole.losses if name != "seconds"]
    assert resumed.losses[terms].equals(whole.losses[terms])
    assert resumed.losses["seconds"].is_monotonic_increasing
    for name in ("loss", "best_iteration", "iterations_done", "precision", "polish", "schedule"):
        assert resumed.parameters[name] == whole.parameters[name]


@pytest.mark.filterwarnings("ignore:.*cannot be written:UserWarning")
@pytest.mark.skipif(not has_native_code(), reason="there is one algorithm")
@pytest.mark.parametrize("name", ["direct", "winograd"])
def test_a_run_goes_on_with_the_convolutions_that_it_had(
    photo, painting, tmp_path, monkeypatch, name
):
    """Also where measurements are not kept, and would come to others."""
    settings, path = Settings(**QUICK, precision="fp32"), tmp_path / "run.safetensors"
    monkeypatch.setenv("STYLEBENCH_CACHE", "/dev/null/none")
    forget()
    monkeypatch.setattr(cpu_convolution, "_fastest", lambda *given: name)
    whole = style_transfer(photo, painting, settings)
    put_down(photo, painting, settings, path, 5)
    forget()  # as a new process
    monkeypatch.setattr(cpu_convolution, "_fastest", None)
    resumed = style_transfer(photo, painting, settings, resume=path)
    forget()
    assert torch.equal(resumed.rgb, whole.rgb)


def test_a_finished_run_is_taken_further(photo, painting, tmp_path):
    path = tmp_path / "run.safetensors"
    settings = Settings(**QUICK, precision="fp32")
    style_transfer(photo, painting, settings, keep=Keep(path))
    longer = Settings(**QUICK | {"iterations": 14}, precision="fp32")
    further = style_transfer(photo, painting, longer, resume=path)
    assert torch.equal(further.rgb, style_transfer(photo, painting, longer).rgb)


def test_a_rollback_before_the_checkpoint_is_no_fault_after_it(photo, painting, tmp_path):
    settings = Settings(**QUICK | {"iterations": 30}, precision="fp32", learning_rate=40.0)
    path = tmp_path / "run.safetensors"
    whole = style_transfer(photo, painting, settings)
    put_down(photo, painting, settings, path, 20)
    resumed = style_transfer(photo, painting, settings, resume=path)
    assert torch.equal(resumed.rgb, whole.rgb)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 40}, "height 21, and this run has 27"),
        ({"precision": "bf16"}, "precision 'fp32', and this run has 'bf16'"),
        ({"style_weight": 5.0}, "style_weight .*, and this run has 5.0"),
        ({"history": 7}, "history 100, and this run has 7"),
    ],
)
def test_another_run_is_refused_by_name(photo, painting, tmp_path, change, message):
    path = tmp_path / "run.safetensors"
    style_transfer(photo, painting, Settings(**QUICK, precision="fp32"), keep=Keep(path))
    other = Settings(**{**QUICK, "precision": "fp32", **change})
    with pytest.raises(CheckpointError, match=message):
        style_transfer(photo, painting, other, resume=path)


@pytest.fixture(scope="module")
def kept(photo, painting, tmp_path_factory):
    """The checkpoint of a run from a third picture."""
    path = tmp_path_factory.mktemp("kept") / "run.safetensors"
    init = path.with_name("init.png")
    photo.save(init)
    style_transfer(photo, [painting, photo], from_file(init), keep=Keep(path))
    return path


def from_file(init):
    return Settings(**QUICK | {"iterations": 2, "history": 3}, precision="fp32", init=str(init))


def brighter(picture):
    """The same but for one grey level in one pixel, which no target's norm shows."""
    other = picture.copy()
    red, green, blue = other.getpixel((3, 4))
    other.putpixel((3, 4), (red ^ 1, green, blue))
    return other


def transparent(picture):
    other = picture.convert("RGBA")
    other.putpixel((3, 4), (*other.getpixel((3, 4))[:3], 254))
    return other


def the_same(picture):
    return picture


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((brighter, the_same, the_same, the_same), "the content differs"),
        ((transparent, the_same, the_same, the_same), "the content differs"),
        ((the_same, brighter, the_same, the_same), "the style 1 differs"),
        ((the_same, the_same, brighter, the_same), "the style 2 differs"),
        ((the_same, the_same, the_same, brighter), "the init differs"),
    ],
)
def test_a_picture_that_is_one_grey_level_brighter_is_refused(
    photo, painting, kept, tmp_path, change, message
):
    content, first, second, init = (
        make(one) for make, one in zip(change, (photo, painting, photo, photo), strict=True)
    )
    init.save(tmp_path / "init.png")
    with pytest.raises(CheckpointError, match=f"other pictures or weights: {message}"):
        style_transfer(content, [first, second], from_file(tmp_path / "init.png"), resume=kept)


def test_the_same_pictures_elsewhere_are_taken(photo, painting, kept, tmp_path):
    for name, picture in (("a", photo), ("b", painting), ("init", photo)):
        picture.save(tmp_path / f"{name}.png")
    files = [tmp_path / f"{name}.png" for name in ("b", "a")]
    result = style_transfer(
        tmp_path / "a.png", files, from_file(tmp_path / "init.png"), resume=kept
    )
    assert result.parameters["iterations_done"] == 2


def test_fewer_iterations_than_were_done_are_refused(photo, painting, tmp_path):
    path = tmp_path / "run.safetensors"
    style_transfer(photo, painting, Settings(**QUICK, precision="fp32"), keep=Keep(path))
    with pytest.raises(CheckpointError, match="has 9 iterations, more than this run comes to"):
        style_transfer(
            photo, painting, Settings(**QUICK | {"iterations": 5}, precision="fp32"), resume=path
        )


def test_weights_that_no_file_tells_are_known_by_their_values(photo, painting, tmp_path, weights):
    path = tmp_path / "run.safetensors"
    layers = {name: (weight * 1.01, bias) for name, (weight, bias) in weights.layers.items()}
    first, second = (
        Settings(**QUICK | {"iterations": 2, "weights": replace(weights, sha256=None, **more)})
        for more in ({}, {"layers": layers})
    )
    style_transfer(photo, painting, first, keep=Keep(path))
    with pytest.raises(CheckpointError, match="the weights differs"):
        style_transfer(photo, painting, second, resume=path)


def test_weights_of_the_same_name_from_another_file_are_refused(photo, painting, tmp_path, weights):
    path = tmp_path / "run.safetensors"
    first, second = (
        Settings(**QUICK | {"weights": replace(weights, sha256=digit * 64)}) for digit in "12"
    )
    style_transfer(photo, painting, first, keep=Keep(path))
    with pytest.raises(CheckpointError, match=r"made with weights_sha256 '1+', .* has '2+'"):
        style_transfer(photo, painting, second, resume=path)


def test_what_is_no_checkpoint_is_named(photo, painting, tmp_path):
    settings = Settings(**QUICK)
    with pytest.raises(CheckpointError, match=r"gone\.safetensors is no checkpoint of a run"):
        style_transfer(photo, painting, settings, resume=tmp_path / "gone.safetensors")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CheckpointError, match="text is no checkpoint"):
        style_transfer(photo, painting, settings, resume=tmp_path / "text")
    save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is no checkpoint"):
        style_transfer(photo, painting, settings, resume=tmp_path / "weights.safetensors")


@pytest.mark.parametrize("more", [{"engine": "reference"}, {"tolerance_grad": 0.0}])
def test_torchs_own_optimizers_are_refused_at_once(photo, painting, tmp_path, more):
    steps = []
    with pytest.raises(CheckpointError, match="an optimizer that stays on the device"):
        style_transfer(
            photo, painting, Settings(**QUICK | more), steps.append, keep=Keep(tmp_path / "x")
        )
    assert not steps

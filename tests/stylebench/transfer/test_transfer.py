"""The drop-in function: what goes in, what comes out, and what happens when it ends early."""

import inspect
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image

from stylebench import Diverged, Interrupted, Settings, style_transfer, stylize
from stylebench.engines import Reference
from stylebench.image.load import ImageError, load_image, resize
from stylebench.image.save import read_parameters
from stylebench.model.normalize import normalized
from stylebench.model.presets import PRESETS
from stylebench.model.weights import random_weights
from stylebench.transfer.device import choose_device
from stylekernels.native import has_native_code

from .problems import SHALLOW, WHOLE, problem_of

QUICK = {
    "weights": "random", "size": 32, "iterations": 3, "device": "cpu", "engine": "reference",
    **SHALLOW,
}  # fmt: skip


@pytest.fixture(scope="module")
def result(photo, painting):
    return style_transfer(photo, painting, Settings(**QUICK | {"iterations": 12}))


def test_pil_in_pil_out_at_the_asked_size(photo, painting):
    image = stylize(photo, painting, **QUICK)
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("RGB", (32, 21))


def test_the_loss_falls_and_the_picture_changes(result, photo):
    assert result.losses["loss"].iloc[-1] < result.losses["loss"].iloc[0] / 10
    before = np.asarray(photo.resize(result.image.size)).astype(float)
    assert np.abs(np.asarray(result.image) - before).mean() > 5


def test_history_is_a_frame_of_terms_by_iteration(result, tmp_path):
    frame = result.losses
    assert list(frame.index) == list(range(1, 13))
    assert list(frame.columns[:3]) == ["seconds", "loss", "content relu2_2"]
    terms = frame.drop(columns=["seconds", "loss"])
    np.testing.assert_allclose(terms.sum(axis=1), frame["loss"])
    lines = result.save_losses(tmp_path / "losses.csv").read_text().splitlines()
    assert lines[0].startswith("iteration,seconds,loss,content relu2_2,style relu1_1")
    assert len(lines) == 13


def test_the_picture_is_the_best_one_evaluated(result, photo, painting):
    problem = problem_of(photo, painting, Settings(**QUICK))
    x = problem.preprocessing.apply(result.rgb[None])
    terms, _ = problem.engine.loss_and_grad(x)
    # The result is clamped to what a picture can hold, the optimized image was not.
    assert terms.total.item() == pytest.approx(result.parameters["loss"], rel=0.35)
    assert result.parameters["loss"] == result.losses["loss"].min()


def test_parameters_are_resolved_and_travel_with_the_file(result, tmp_path):
    found = read_parameters(result.save(tmp_path / "a.png"))
    expected = {
        "preset": "gatys-pytorch", "style_weight": 1000.0, "pooling": "max", "engine": "reference",
        "precision": "fp32", "device": "cpu", "weights": "random:0",
        "weights_sha256": None, "width": 32, "height": 21,
        "iterations_done": 12,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_same_seed_gives_the_same_bits(photo, painting):
    noise = QUICK | {"init": "noise"}
    first, again = (style_transfer(photo, painting, Settings(**noise, seed=4)) for _ in range(2))
    other = style_transfer(photo, painting, Settings(**noise, seed=5))
    assert torch.equal(first.rgb, again.rgb)
    assert first.losses["loss"].equals(again.losses["loss"])
    assert not torch.equal(first.rgb, other.rgb)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs_and_descends(photo, painting, preset):
    quick = QUICK | WHOLE | {"iterations": 8}
    losses = style_transfer(photo, painting, Settings(preset=preset, **quick)).losses["loss"]
    assert losses.min() < losses.iloc[0]


def test_adam_descends(photo, painting):
    settings = Settings(**QUICK | {"iterations": 15}, optimizer="adam")
    losses = style_transfer(photo, painting, settings).losses["loss"]
    assert losses.iloc[-1] < losses.iloc[0] / 2


def test_the_start_is_what_init_says(photo, painting, tmp_path):
    photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "start.png")

    def start(init):
        problem = problem_of(photo, painting, Settings(**QUICK, init=init))
        return problem.rgb(problem.image)

    content = start("content")
    assert torch.allclose(start(str(tmp_path / "start.png")), content.flip(-1), atol=0.02)
    assert start("style").shape == content.shape
    assert not torch.allclose(start("style"), content, atol=0.1)
    problem = problem_of(photo, painting, Settings(**QUICK, init="noise"))
    noise = problem.preprocessing.invert(problem.image)
    assert noise.mean().item() == pytest.approx(0.5, abs=0.02)
    assert noise.std().item() == pytest.approx(0.25, abs=0.02)


def test_several_styles_blend_by_weight(photo, painting):
    other = painting.rotate(90).point(lambda value: value // 2)

    def grams(styles, weights=None):
        return problem_of(
            photo, styles, Settings(**QUICK, style_weights=weights)
        ).engine.targets.style

    first, second = grams(painting)["relu2_1"], grams([other])["relu2_1"]
    torch.testing.assert_close(
        grams([painting, other], [2, 1])["relu2_1"], (2 * first + second) / 3
    )
    torch.testing.assert_close(grams([painting, other])["relu2_1"], (first + second) / 2)


def test_style_images_are_sized_as_the_preset_says(photo, painting, monkeypatch):
    seen = []

    class Spy(Reference):
        def __init__(self, network, objective, content, styles, *more):
            seen.append([tuple(style.shape[-2:]) for style in styles])
            super().__init__(network, objective, content, styles, *more)

    monkeypatch.setitem(__import__("stylebench.engines").engines.ENGINES, "reference", Spy)
    problem_of(photo, painting, Settings(**QUICK))
    problem_of(photo, painting, Settings(**QUICK | {"size": 64}, style_scale=0.5))
    problem_of(photo, painting, Settings(**QUICK, preset="paper"))
    assert seen == [[(32, 32)], [(32, 32)], [(21, 32)]]


def test_the_papers_network_is_normalized(photo, painting):
    quick = QUICK | {"content_layers": {}, "style_layers": {"relu1_1": 1.0, "relu2_1": 1.0}}
    problem = problem_of(photo, painting, Settings(**quick, preset="paper"))
    assert problem.parameters["weights"] == "random:0, normalized"
    weights = random_weights()
    images = [
        weights.preprocessing.apply(resize(load_image(each).rgb, (21, 32))[None])
        for each in (photo, painting)
    ]
    expected = normalized(weights, images, "relu2_1").layers["conv2_1"][0]
    assert torch.equal(problem.engine.network.layers["conv2_1"].weight, expected)
    plain = problem_of(photo, painting, Settings(**quick, preset="paper", normalize=False))
    assert not torch.equal(plain.engine.network.layers["conv2_1"].weight, expected)


def test_transparency_is_carried_to_the_output(photo, painting):
    content = photo.copy()
    mask = Image.new("L", photo.size, 255)
    mask.paste(0, (0, 0, 24, 32))
    content.putalpha(mask)
    image = stylize(content, painting, **QUICK)
    assert image.mode == "RGBA"
    assert image.getchannel("A").getextrema() == (0, 255)
    assert stylize(photo, content, **QUICK).mode == "RGB"


@pytest.mark.parametrize(
    ("optimizer", "layers"),
    [
        ("lbfgs", SHALLOW),
        pytest.param("lbfgs", WHOLE, marks=pytest.mark.slow),
        pytest.param("adam", WHOLE, marks=pytest.mark.slow),
    ],
)
def test_fused_follows_the_reference(photo, painting, optimizer, layers):
    """The same losses at first, and as low at the end; rounding parts the trajectories between."""
    settings = QUICK | layers | {"iterations": 40, "optimizer": optimizer, "pooling": "average"}
    settings["precision"] = "fp32"
    ours, theirs = (
        style_transfer(photo, painting, Settings(**settings | {"engine": engine})).losses["loss"]
        for engine in ("fused", "reference")
    )
    np.testing.assert_allclose(ours[:6], theirs[:6], rtol=1e-3)
    assert ours.min() == pytest.approx(theirs.min(), rel=0.1)


def test_what_was_chosen_is_logged(photo, painting, caplog):
    with caplog.at_level("INFO", "stylebench"):
        stylize(photo, painting, **QUICK | {"engine": "auto", "precision": "fp32"})
    assert [record.getMessage() for record in caplog.records] == [
        "32 x 21 px, engine fused fp32 on cpu, weights random:0, preset gatys-pytorch, lbfgs"
    ]


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"avx512_bf16": True, "amx_bf16": False}, "fp32" if has_native_code() else "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({}, "fp32"),
    ],
)
def test_auto_chooses_fused_in_the_precision_that_the_processor_multiplies(
    photo, painting, monkeypatch, capabilities, precision
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    problem = problem_of(photo, painting, Settings(**QUICK | {"engine": "auto"}))
    assert (problem.engine.name, problem.parameters["precision"]) == ("fused", precision)


def test_a_precision_that_an_engine_lacks_is_refused(photo, painting):
    with pytest.raises(ValueError, match="engine 'reference' does not compute in bf16: expected"):
        problem_of(photo, painting, Settings(**QUICK, precision="bf16"))


def test_fp64_runs_in_fp64(photo, painting):
    problem = problem_of(photo, painting, Settings(**QUICK, precision="fp64"))
    terms, gradient = problem.engine.loss_and_grad(problem.image)
    assert terms.values.dtype == gradient.dtype == torch.float64
    assert problem.parameters["precision"] == "fp64"


def test_a_bf16_history_is_used_and_goes_its_own_way(photo, painting):
    settings = Settings(**QUICK | {"engine": "fused", "iterations": 12}, history=5)
    halved = replace(settings, history_dtype="bf16")
    wide, narrow = (style_transfer(photo, painting, each) for each in (settings, halved))
    assert narrow.parameters["loss"] != wide.parameters["loss"]
    assert narrow.parameters["loss"] == pytest.approx(wide.parameters["loss"], rel=0.2)


def test_the_reference_has_no_bf16_history(photo, painting):
    with pytest.raises(ValueError, match=r"torch's own L-BFGS.* has no bf16 history"):
        stylize(photo, painting, **QUICK | {"engine": "reference"}, history_dtype="bf16")
    with pytest.raises(ValueError, match="unknown history_dtype 'fp8': expected one of fp32, bf16"):
        stylize(photo, painting, **QUICK, history_dtype="fp8")


def test_interrupt_gives_the_best_image_so_far(photo, painting):
    def stop(step):
        if step.iteration == 4:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as interrupt:
        stylize(photo, painting, **QUICK | {"iterations": 100}, callback=stop)
    assert isinstance(interrupt.value, KeyboardInterrupt)
    assert len(interrupt.value.result.history) == 4
    assert interrupt.value.result.image.size == (32, 21)


def test_fused_rolls_a_divergence_back_and_goes_on(photo, painting):
    settings = Settings(**QUICK | {"engine": "fused", "iterations": 30}, learning_rate=30.0)
    result = style_transfer(photo, painting, settings)
    assert result.rgb.isfinite().all()
    assert result.parameters["loss"] < result.history[0]["loss"]


def test_divergence_gives_the_last_good_image_and_names_the_term(photo, painting):
    with pytest.raises(
        Diverged, match=r"iteration .* kept\. learning_rate is 1e\+30"
    ) as divergence:
        stylize(photo, painting, **QUICK | {"iterations": 100}, learning_rate=1e30)
    result = divergence.value.result
    assert result is not None
    assert result.rgb.isfinite().all()
    assert result.parameters["best_iteration"] >= 1


@pytest.mark.slow
def test_a_divergence_in_fp16_names_precisions_that_reach_further(photo, painting):
    given = QUICK | {"engine": "fused", "precision": "fp16"}
    with pytest.raises(Diverged, match="or take precision bf16 or fp32"):
        stylize(photo, painting, **given, style_weight=1e38)


def test_divergence_at_once_has_no_image(photo, painting):
    with pytest.raises(
        Diverged, match=r"at iteration 1; there was no good image before\. style_weight is 1e\+38"
    ) as divergence:
        stylize(photo, painting, **QUICK, style_weight=1e38)
    assert divergence.value.result is None


def test_signature_and_settings_are_the_same():
    parameters = inspect.signature(stylize).parameters
    options = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in ("callback", "progress")
    }
    assert options.pop("normalise") is None  # another spelling of one of them
    assert options == {field.name: field.default for field in fields(Settings)}
    assert [p.kind for p in list(parameters.values())[:2]] == [
        inspect.Parameter.POSITIONAL_OR_KEYWORD
    ] * 2


def test_too_small_a_size_names_the_image_and_the_need(photo, painting):
    with pytest.raises(
        ImageError, match=r"16 x 11 px once resized is too small for relu5_1: .*16 px"
    ):
        stylize(photo, painting, **QUICK | WHOLE | {"size": 16})


def test_wrong_styles_are_named(photo, painting):
    with pytest.raises(ValueError, match="no style image given"):
        stylize(photo, [], **QUICK)
    with pytest.raises(ValueError, match=r"2 style_weights for 1 style image$"):
        stylize(photo, painting, **QUICK, style_weights=[1, 2])
    with pytest.raises(ValueError, match=r"expected numbers >= 0 .*not all of them 0"):
        stylize(photo, [painting, painting], **QUICK, style_weights=[0, 0])
    with pytest.raises(ImageError, match=r"absent.jpg: no such file"):
        stylize(photo, "absent.jpg", **QUICK)


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("mps", "this machine has cpu, cuda:0, cuda:1"),
        ("mps:0", "this machine has cpu, cuda:0, cuda:1"),
        ("cuda:2", "this machine has cpu, cuda:0, cuda:1"),
        ("cuda:1", "out of order"),
        ("gpu", "it is no device"),
        ("hpu", "there is no code for it"),
    ],
)
def test_the_devices_that_are_there_are_told(monkeypatch, device, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", raising(RuntimeError("out of order\nmany lines")))
    with pytest.raises(
        ValueError, match=rf"cannot be used here \({reason}\): expected cpu"
    ) as error:
        choose_device(device)
    assert "\n" not in str(error.value)


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    "device", ["cuda:99", "tpu", "meta:x", "meta", "hpu", "privateuseone", "cpu:7", "xla:0"]
)
def test_a_device_that_is_not_there_is_refused(photo, painting, device):
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used here"):
        stylize(photo, painting, **QUICK | {"device": device})

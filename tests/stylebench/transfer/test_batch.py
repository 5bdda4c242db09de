"""A batch gives each picture the result that it has alone; one that fails does not end the rest."""

import pytest
import torch

from stylebench import Settings, style_transfer, stylize_batch
from stylebench.image.load import ImageError
from stylebench.transfer import api, batch, inputs
from stylebench.transfer.reuse import clear_cache

QUICK = Settings(
    weights="random", size=40, iterations=3, scales=None, device="cpu", precision="fp32",
    content_layers=["relu2_2"], style_layers=["relu1_1", "relu2_1"],
)  # fmt: skip


@pytest.fixture
def contents(photo, painting):
    return [photo, photo.transpose(0), painting, photo.rotate(180)]  # of two shapes


def alone(content, style, settings=QUICK):
    clear_cache()
    return style_transfer(content, style, settings).rgb


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_result_does_not_depend_on_its_company(contents, painting, precision):
    settings = Settings(**vars(QUICK) | {"precision": precision, "polish": None})
    expected = [alone(content, painting, settings) for content in contents]
    clear_cache()
    results = list(stylize_batch(contents, painting, settings))
    assert len(results) == len(contents)
    assert all(torch.equal(r.rgb, rgb) for r, rgb in zip(results, expected, strict=True))


def test_the_style_is_read_once_and_the_weights_once_a_shape(contents, painting, monkeypatch):
    read = []

    def reading(module, name):
        function = getattr(module, name)

        def call(source):
            read.append((name, source))
            return function(source)

        monkeypatch.setattr(module, name, call)

    reading(inputs, "load_weights")
    reading(inputs, "load_image")
    reading(batch, "load_image")
    style = painting.rotate(90)
    list(stylize_batch(contents, style, QUICK))
    assert [name for name, source in read if source is style] == ["load_image"]
    assert [source for name, source in read if name == "load_weights"] == ["random"] * 2


def test_contents_are_read_when_it_is_their_turn(photo, painting):
    def contents():
        yield photo
        raise LookupError

    results = stylize_batch(contents(), painting, QUICK)
    assert next(results) is not None
    with pytest.raises(LookupError):
        next(results)


def test_a_picture_that_fails_is_told_and_the_rest_go_on(photo, painting):
    failed = []
    contents = [photo, "missing.png", photo]

    def on_error(content, error):
        failed.append((content, type(error)))

    first, none, last = stylize_batch(contents, painting, QUICK, on_error=on_error)
    assert none is None
    assert failed == [("missing.png", ImageError)]
    assert torch.equal(first.rgb, last.rgb)


def test_without_a_function_for_them_errors_are_raised(photo, painting):
    results = stylize_batch([photo, "missing.png"], painting, QUICK)
    next(results)
    with pytest.raises(ImageError, match=r"missing\.png"):
        next(results)


def test_a_warm_start_is_a_run_that_begins_at_the_result_before(photo, painting):
    first, second = stylize_batch([photo, photo.rotate(9)], painting, QUICK, warm_start=True)
    assert torch.equal(first.rgb, alone(photo, painting))
    settings = Settings(**vars(QUICK) | {"init": first.rgb})
    assert torch.equal(second.rgb, alone(photo.rotate(9), painting, settings))


def test_a_warm_start_goes_on_from_the_last_good_picture(photo, painting):
    contents = [photo, "missing.png", photo]
    first, _, last = stylize_batch(
        contents, painting, QUICK, warm_start=True, on_error=lambda *_: None
    )
    settings = Settings(**vars(QUICK) | {"init": first.rgb})
    assert torch.equal(last.rgb, alone(photo, painting, settings))


def test_ctrl_c_ends_the_batch_and_keeps_what_was_yielded(photo, painting, monkeypatch):
    results = stylize_batch([photo] * 3, painting, QUICK, on_error=lambda *_: None)
    next(results)

    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "build_problem", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(results)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("photo.jpg", "painting.jpg"), "contents is 'photo.jpg': expected several images"),
        ((torch.zeros(3, 8, 8), "painting.jpg"), "contents is .* expected several images"),
        (([], "missing.png"), r"missing\.png"),
        (([], []), "no style image"),
        (([], "p.jpg", {"size": 3}), "settings is .*expected stylebench.Settings"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_picture(arguments, message):
    with pytest.raises(ValueError, match=message):
        stylize_batch(*arguments)


def test_a_warm_start_begins_the_first_picture_at_init(photo, painting):
    settings = Settings(**vars(QUICK) | {"init": photo.rotate(9)})
    first, second = stylize_batch([photo, photo], painting, settings, warm_start=True)
    assert torch.equal(first.rgb, alone(photo, painting, settings))
    settings = Settings(**vars(QUICK) | {"init": first.rgb})
    assert torch.equal(second.rgb, alone(photo, painting, settings))

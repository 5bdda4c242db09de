"""The pair of pictures that benchmarks use: the files of a checkout, else drawn ones."""

import hashlib

import pytest

from stylebench.image import examples
from stylebench.image.examples import DRAWN, FILES, example, example_name


@pytest.fixture
def no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "FOLDER", tmp_path)
    example.cache_clear()
    yield tmp_path
    example.cache_clear()


def test_a_checkout_has_both_pictures_and_their_licenses():
    text = (examples.FOLDER / "README.md").read_text("utf-8")
    for role, name in FILES.items():
        assert example_name(role) == name
        assert f"`{name}`" in text
    assert "Andreas Praefcke | [CC BY 3.0]" in text
    assert "Vincent van Gogh, 1889 | public domain" in text


@pytest.mark.parametrize("role", FILES)
@pytest.mark.parametrize(("width", "height"), [(256, 192), (512, 512), (100, 300)])
def test_a_picture_is_cut_to_the_aspect_and_not_enlarged(role, width, height):
    picture = example(role, width, height)
    assert picture.width / picture.height == pytest.approx(width / height, rel=0.01)
    assert 768 in picture.size or max(picture.size) >= 970


def test_a_picture_of_the_files_own_aspect_is_the_file():
    assert example("content", 256, 192).size == (1024, 768)


def test_without_files_a_pair_is_drawn_and_named_so(no_files):
    assert [example_name(role) for role in FILES] == ["drawn landscape", "drawn painting"]
    assert example("content", 64, 48).size == (64, 48)


def test_half_of_a_pair_is_none(no_files):
    (no_files / FILES["content"]).write_bytes(b"")
    assert example_name("content") == DRAWN["content"]


def test_content_and_style_are_different_pictures():
    digests = {hashlib.sha256(example(role, 64, 48).tobytes()).digest() for role in FILES}
    assert len(digests) == 2

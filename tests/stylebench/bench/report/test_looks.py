"""The page as it looks, on a desktop and on a phone; screenshots stay in pytest's folder."""

import dataclasses

import pytest
from PIL import Image

from stylebench.bench.records.store import file_name, write_record
from stylebench.bench.report.page import write_report

from .browsing import CUT, DESKTOP, PHONE, opened, settled
from .conftest import CPU, iterations, record

pytest.importorskip("plotly", reason="the extra 'report' is not installed")

PAPER = {"light": (251, 251, 250), "dark": (18, 21, 24)}
#: Names of marks that lie upon each other, and axes with fewer than two.
TICKS = """() => [...document.querySelectorAll(".xaxislayer-above, .yaxislayer-above")]
  .flatMap((layer) => {
    const boxes = [...layer.querySelectorAll(".xtick, .ytick")].map((tick) => [
      tick.textContent, tick.getBoundingClientRect(),
    ]).filter(([, box]) => box.width);
    const clash = (a, b) => a.left < b.right && b.left < a.right
      && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
    const faults = boxes.flatMap(([name, box], index) => boxes.slice(index + 1)
      .filter(([, other]) => clash(box, other)).map(([other]) => `${name} on ${other}`));
    return boxes.length < 2 ? [...faults, `only ${boxes.length} on an axis`] : faults;
  })"""


#: Opens or closes everything that folds.
FOLD = """(open) => {
  document.querySelectorAll("details").forEach((details) => { details.open = open; });
}"""


@pytest.fixture(scope="module")
def wordy(tmp_path_factory):
    """The page of one machine's iterations whose labels have to name optimizer and history."""
    choices = ({"history": 20}, {"history": 100}, {"optimizer": "adam"})
    cases = [
        dataclasses.replace(
            each,
            name=f"{each.name} {number}",
            parameters={**each.parameters, "optimizer": "lbfgs", **choice},
            peak_bytes=int(9e8 + 5e8 * (each.parameters["width"] / 1024) + 4e7 * number),
        )
        for each in iterations(CPU, [(256, 192), (512, 384)])
        for number, choice in enumerate(choices)
        if not number or each.parameters["engine"] == "fused"
    ]
    folder = tmp_path_factory.mktemp("wordy")
    one = record("iteration", CPU, cases)
    write_record(folder / file_name(one), one)
    return write_report([folder], folder / "site").as_uri()


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_words_stay_within_their_chart(request, size):
    """Labels beside bars and axes are not cut off by the chart's edge."""
    assert request.getfixturevalue(size).evaluate(CUT) == []


def test_nothing_on_a_phone_scrolls_sideways(phone):
    assert phone.title() == "stylebench: results"
    phone.evaluate(FOLD, True)
    assert phone.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


@pytest.mark.parametrize(
    "size",
    [pytest.param(DESKTOP, id="desktop", marks=pytest.mark.slow), pytest.param(PHONE, id="phone")],
)
def test_long_labels_leave_room_for_bars_and_words(browser, wordy, tmp_path, size):
    with opened(browser, wordy, size=size) as page:
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        assert page.evaluate(CUT) == []
        assert page.evaluate(TICKS) == []
        assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
        longest = page.locator("#speed-0 .point path").first.bounding_box()
        assert longest["width"] > size["width"] / 9


@pytest.mark.parametrize(
    ("device", "scheme"),
    [
        ("desktop", "light"),
        ("phone", "dark"),
        pytest.param("desktop", "dark", marks=pytest.mark.slow),
        pytest.param("phone", "light", marks=pytest.mark.slow),
    ],
)
def test_screenshots_show_something_and_nothing_wider_than_the_screen(
    request, tmp_path, device, scheme
):
    page, size = request.getfixturevalue(device), {"desktop": DESKTOP, "phone": PHONE}[device]
    page.emulate_media(color_scheme=scheme)
    page.evaluate("delete document.documentElement.dataset.theme")
    page.evaluate(FOLD, False)
    assert settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    with Image.open(tmp_path / "page.png") as image:
        assert image.width == size["width"]
        assert image.height > 5 * size["height"]
        assert image.getpixel((0, 0))[:3] == PAPER[scheme]
        # Something is on it from top to bottom: no screen of it is all of one color.
        for top in range(0, image.height - size["height"], size["height"]):
            screen = image.crop((0, top, image.width, top + size["height"])).convert("L")
            low, high = screen.getextrema()
            assert high - low > 100, f"blank at {top} px"

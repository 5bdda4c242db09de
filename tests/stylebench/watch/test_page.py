"""The page of a run in a real browser: it grows, stops the run, and outlives its server."""

from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from stylebench.watch.page import feed as feeds
from stylebench.watch.page.feed import Feed
from stylebench.watch.page.server import serving
from stylebench.watch.throttle import Throttle

from .conftest import shade

DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 360, "height": 740}
HOSTILE = "<script>window.hacked = true</script><img src=x onerror='window.hacked = true'>"
#: Words and boxes that stick out of the window, and scrolling sideways.
OUTSIDE = """() => [
  ...[...document.querySelectorAll("body *")].filter((one) => {
    const box = one.getBoundingClientRect();
    return box.width && getComputedStyle(one).position !== "absolute"
      && (box.right > innerWidth + 1 || box.left < -1);
  }).map((one) => one.outerHTML.slice(0, 80)),
  ...(document.documentElement.scrollWidth > innerWidth ? ["scrolls"] : []),
]"""
#: Points of a curve.
POINTS = (
    """(name) => document.querySelector(`path.${name}`).getAttribute("d").match(/[ML]/g).length"""
)


@pytest.fixture
def feed(monkeypatch):
    """A feed that makes a picture at every step."""
    monkeypatch.setattr(feeds, "_PAUSE", 0.01)
    monkeypatch.setattr(feeds, "Throttle", lambda: Throttle(seconds=0.0, share=1e9))
    return Feed("photo.jpg in the manner of painting.jpg")


@contextmanager
def opened(browser, address, size=DESKTOP, scheme="light"):
    """The page; fails for what it says on the console, or asks of another host."""
    page = browser.new_page()
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(address)
    yield page
    own = urlsplit(address).netloc
    others = [
        url for url in requests if not url.startswith("data:") and urlsplit(url).netloc != own
    ]
    page.close()
    assert (complaints, others) == ([], [])


def text_of(page, name):
    return page.locator(f"#{name}").text_content()


def wait(page, name, text):
    """Wait until an element has a text; fail where it never has."""
    page.locator(f"#{name}", has_text=text).wait_for(timeout=30_000)


def test_the_page_grows_with_the_run(browser, feed, steps):
    run = list(steps(40))
    with serving(feed) as address, opened(browser, address) as page:
        wait(page, "status", "Loading")
        assert page.locator("#stop").is_disabled()
        pictures = set()
        for step in run[:20]:
            feed.show(step)
            wait(page, "iteration", f"{step.iteration} / 40")
            pictures.add(page.locator("#image").get_attribute("src"))
        assert len(pictures) > 10
        assert page.evaluate("document.querySelector('#image').naturalWidth") == 48
        for name in ("total", "term-0", "term-1"):
            assert page.evaluate(POINTS, name) == 20
        falling = page.evaluate("document.querySelector('path.total').getAttribute('d')")
        heights = [float(place.split()[1]) for place in falling[1:].split("L")[1:]]
        assert heights == sorted(heights)  # downwards
        assert text_of(page, "rate") == "10.0"
        assert text_of(page, "eta") == "0:00:02"
        assert text_of(page, "status") == "Running: 50 % of the work is done"
        assert page.locator("#terms tr").all_text_contents()[1] == "content relu4_2279525.0 %"
        assert page.locator("#bar").evaluate("bar => bar.value") == 0.5
        assert page.title().startswith("50 % · photo.jpg")


def test_a_second_page_of_a_run_has_its_whole_curve(browser, feed, steps):
    for step in steps(30):
        feed.show(step)
    with serving(feed) as address, opened(browser, address) as page:
        wait(page, "iteration", "30 / 30")
        assert page.evaluate(POINTS, "total") == 30


def test_the_curve_of_a_resumed_run_begins_where_it_goes_on(browser, feed, steps):
    with serving(feed) as address, opened(browser, address) as page:
        for step in list(steps(300))[200:240]:
            feed.show(step)
        wait(page, "iteration", "240 / 300")
        assert page.locator("#curve text[text-anchor=middle]").first.text_content() == "201"
        drawn = page.evaluate("document.querySelector('path.total').getBBox().width")
        assert drawn > 0.3 * page.evaluate("document.querySelector('#curve').clientWidth")


def test_a_phase_begins_a_new_line(browser, feed, steps):
    with serving(feed) as address, opened(browser, address) as page:
        for step in steps(12, second=7):
            feed.show(step)
        wait(page, "iteration", "12 / 12")
        assert (
            page.evaluate("document.querySelector('path.total').getAttribute('d')").count("M") == 2
        )
        assert page.locator("#curve line.phase").count() == 1


def test_the_button_asks_once_and_then_stops_the_run(browser, feed, steps):
    with serving(feed) as address, opened(browser, address) as page:
        feed.show(next(steps(40)))
        button = page.locator("#stop:enabled")
        button.click()
        assert button.text_content() == "Press again to stop"
        assert not feed._stopping
        button.click()
        wait(page, "status", "Stopping: the best picture so far is being saved.")
        assert feed._stopping
        assert page.locator("#stop").is_disabled()


def test_the_end_is_shown_when_the_server_has_gone(browser, feed, steps):
    with serving(feed) as address:
        manager = opened(browser, address)
        page = manager.__enter__()
        wait(page, "status", "Loading")
        for step in steps(12):
            feed.show(step)
        feed.end("done", "done; the picture is in /pictures/out.png", shade(77, (64, 40)))
    # The server is gone: a page that had to ask for anything more would complain on the console.
    wait(page, "status", "Done; the picture is in /pictures/out.png.")
    page.wait_for_timeout(500)
    assert page.evaluate("document.querySelector('#image').naturalWidth") == 64
    assert page.locator("#image").get_attribute("alt") == "The picture that was saved"
    assert page.evaluate(POINTS, "total") == 12
    assert page.locator("#stop").is_hidden()
    assert text_of(page, "eta-name") == "Time taken"
    assert page.title().startswith("done · ")
    assert page.evaluate("events.readyState") == 2  # it does not try again
    manager.__exit__(None, None, None)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_sticks_out_of_the_window(browser, steps, size, scheme):
    feed = Feed(f"{'photograph' * 20}.jpg")  # with nowhere to break
    with serving(feed) as address, opened(browser, address, size, scheme) as page:
        assert page.evaluate(OUTSIDE) == []
        for step in steps(12_345, second=9):
            if step.iteration == 30:
                break
            feed.show(step)
        wait(page, "iteration", "29 / 12345")
        assert page.evaluate(OUTSIDE) == []
        button = page.locator("#stop")
        assert button.bounding_box()["height"] == 44  # a line, and a finger
        button.click()
        assert button.bounding_box()["height"] == 44
        assert page.evaluate(OUTSIDE) == []
        dark = (
            page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(251, 251, 250)"
        )
        assert dark == (scheme == "dark")
        feed.end("failed", "the best image so far is in /" + "folder" * 40)
        wait(page, "status", "The best image so far")
        assert page.evaluate(OUTSIDE) == []


def test_names_are_text(browser, steps):
    feed = Feed(HOSTILE)
    with serving(feed) as address, opened(browser, address) as page:
        step = next(steps(3))
        step.terms[HOSTILE] = 1.0
        feed.show(step)
        feed.end("done", HOSTILE)
        wait(page, "status", HOSTILE)
        assert text_of(page, "title") == HOSTILE
        assert HOSTILE in text_of(page, "terms")
        assert page.evaluate("window.hacked") is None


def test_what_changes_is_named_for_those_who_cannot_see_it(browser, feed, steps):
    with serving(feed) as address, opened(browser, address) as page:
        assert page.locator("#status").get_attribute("role") == "status"  # read aloud as it changes
        for step in steps(12):
            feed.show(step)
        wait(page, "iteration", "12 / 12")
        label = page.locator("#curve").get_attribute("aria-label")
        assert label == "Loss on a logarithmic scale, from 1.00e6 to 2.41e4"
        assert page.locator("#image").get_attribute("alt") == "The picture after 12 iterations"
        assert page.get_by_role("progressbar", name="Share of the work that is done").count() == 1
        assert page.get_by_role("button", name="Stop and keep").count() == 1
        assert page.locator("html").get_attribute("lang") == "en"

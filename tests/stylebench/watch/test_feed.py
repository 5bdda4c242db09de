"""What a page is told of a run, and what a run spends on pages."""

import json
from dataclasses import replace
from threading import Thread

import pytest

from stylebench.watch.page import curve as curves
from stylebench.watch.page import feed as feeds
from stylebench.watch.page.feed import Feed, Stopped
from stylebench.watch.throttle import Throttle

from .conftest import shade


@pytest.fixture
def feed(monkeypatch):
    """A feed that makes no one wait."""
    monkeypatch.setattr(feeds, "_PAUSE", 0.0)
    monkeypatch.setattr(feeds, "Throttle", lambda: Throttle(seconds=0.0, share=1e9))
    return Feed("a run")


def test_no_picture_is_made_while_no_page_is_open(feed, steps, no_picture):
    for step in steps(5):
        feed.show(replace(step, picture=no_picture))
    assert feed._curve.points[-1][0] == 5


def test_a_page_is_told_everything_first_and_then_what_is_new(feed, steps):
    run = list(steps(4))
    for step in run[:2]:
        feed.show(step)
    events = feed.events()
    first = next(events)
    assert (first["title"], first["iteration"], first["from"]) == ("a run", 2, 0)
    assert [point[0] for point in first["points"]] == [1, 2]
    assert "picture" not in first  # nobody was there to see it
    feed.show(run[2])
    second = next(events)
    assert (second["from"], [point[0] for point in second["points"]]) == (2, [3])
    assert second["picture"].startswith("data:image/jpeg;base64,")
    assert second["names"] == ["content relu4_2", "style relu1_1"]
    assert second["now"] == [3, 0, run[2].loss, *run[2].terms.values()]
    feed.end("done", "it is saved", shade(9))
    last = next(events)
    assert last["end"] == {"how": "done", "text": "it is saved"}
    assert last["points"] == []
    assert last["picture"] != second["picture"]
    assert list(events) == []


def test_a_page_opened_before_the_first_iteration_is_told_so_at_once(feed):
    event = next(feed.events())
    assert (event["title"], event["points"]) == ("a run", [])


def test_a_page_that_hears_nothing_is_asked_whether_it_is_there(feed, steps, monkeypatch):
    monkeypatch.setattr(feeds, "_HEARTBEAT", 0.01)
    events = feed.events()
    next(events)
    assert next(events) is None
    feed.show(next(steps(9)))
    assert next(events)["iteration"] == 1


def test_pictures_are_made_no_more_often_than_the_throttle_lets(steps, no_picture):
    feed = Feed("a run")
    events = feed.events()
    next(events)
    first, second, *_ = steps(9)
    feed.show(first)
    feed.show(replace(second, picture=no_picture))


def test_the_last_iteration_has_its_picture_however_soon_it_comes(steps):
    feed = Feed("a run")
    events = feed.events()
    next(events)
    for step in steps(2):
        feed.show(step)
    assert feed._picture_number == 2


def test_a_throttle_leaves_most_of_the_time_to_the_run(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("stylebench.watch.throttle.perf_counter", lambda: now[0])
    throttle = Throttle(seconds=1.0, share=0.1)
    assert throttle.due()
    with throttle.spending():
        now[0] += 2.0
    now[0] += 19.0
    assert not throttle.due()
    now[0] += 1.0
    assert throttle.due()


def test_a_stop_ends_the_next_step(feed, steps):
    first, second = steps(2)
    feed.show(first)
    feed.stop()
    with pytest.raises(Stopped):
        feed.show(second)


def test_only_the_first_end_counts(feed):
    feed.end("done", "saved")
    feed.end("failed", "lost")
    assert next(feed.events())["end"]["text"] == "saved"


def test_the_run_waits_for_pages_that_have_not_heard_of_its_end(feed):
    events = feed.events()
    next(events)
    feed.end("done", "saved")
    waiting = Thread(target=feed.wait_for_pages, args=(60,))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    assert "end" in next(events)
    assert list(events) == []
    waiting.join(30)
    assert not waiting.is_alive()


def test_the_run_waits_for_a_page_that_is_being_opened(feed):
    feed.expect_page()
    feed.end("done", "saved")
    waiting = Thread(target=feed.wait_for_pages, args=(60,))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    assert [event["end"]["how"] for event in feed.events()] == ["done"]
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_long_run_has_a_bounded_curve_that_pages_follow(feed, steps, monkeypatch):
    monkeypatch.setattr(curves, "_MOST", 16)
    events = feed.events()
    points = []
    for step in steps(500):
        feed.show(replace(step, picture=lambda: shade(1)))
        event = next(events)
        points[event["from"] :] = event["points"]
        assert len(points) <= 16
        assert event["now"][0] == step.iteration
    iterations = [point[0] for point in points]
    assert iterations == list(range(1, 501, iterations[1] - 1))
    assert len(iterations) > 7


def test_what_is_told_is_json_also_of_losses_that_are_not_finite(feed, steps):
    step = next(steps(3))
    feed.show(replace(step, loss=float("nan"), terms={"style": float("inf"), "tv": 1.0}))
    text = json.dumps(next(feed.events()), allow_nan=False)
    assert json.loads(text)["points"] == [[1, 0, None, None, 1.0]]


def test_a_term_that_comes_later_has_a_column_of_its_own(feed, steps):
    first, second = steps(2)
    feed.show(replace(first, terms={"style": 1.0}))
    feed.show(replace(second, terms={"tv": 2.0}))
    event = next(feed.events())
    assert event["names"] == ["style", "tv"]
    assert [point[3:] for point in event["points"]] == [[1.0], [None, 2.0]]

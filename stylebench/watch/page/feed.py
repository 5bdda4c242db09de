"""The feed of a page: the run's thread writes it, and a thread a page reads it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Any

from PIL import Image

from stylebench.watch.page.curve import Curve
from stylebench.watch.pictures import as_jpeg, bounded, data_url
from stylebench.watch.step import Step
from stylebench.watch.throttle import Throttle

_LONGEST = 1024  # px of a picture on the way
_LONGEST_AT_END = 2048  # likewise of the last one
_PAUSE = 0.25  # seconds between two events
_HEARTBEAT = 10.0  # seconds until a page that hears nothing is asked whether it is there

Event = dict[str, Any]


class Stopped(Exception):
    """The stop button of the page was pressed."""


class Feed:
    """The state of a run as its pages show it.

    Nothing but the losses is kept while no page is open: no picture is made.

    Args:
        title: of the page.
    """

    def __init__(self, title: str) -> None:
        self._changed = Condition()
        self._throttle = Throttle()
        self._curve = Curve()
        self._state: Event = {"title": title}
        self._picture = ""  # as an address that holds it
        self._picture_number = self._version = 0
        self._pages = 0
        self._expected = False
        self._stopping = False

    def show(self, step: Step) -> None:
        """Bring the pages up to date.

        Raises:
            Stopped: the button of one was pressed.
        """
        if self._stopping:
            raise Stopped
        picture = self._drawn(step)
        with self._changed:
            self._state |= {
                "now": self._curve.add(step),
                "iteration": step.iteration,
                "iterations": step.iterations,
                "share": step.share,
                "rate": step.rate,
                "eta": step.eta,
            }
            self._put(picture)

    def end(self, how: str, text: str, picture: Image.Image | None = None) -> None:
        """Bring the pages up to date for the last time; a second end changes nothing.

        Args:
            how: ``done``, ``stopped`` or ``failed``.
            text: how the run ended, and where its picture is.
            picture: that was saved.
        """
        if self.ended:
            return
        last = data_url(as_jpeg(bounded(picture, _LONGEST_AT_END), 92)) if picture else ""
        with self._changed:
            self._state["end"] = {"how": how, "text": text}
            self._put(last)

    def stop(self) -> None:
        """Let the next step end the run."""
        with self._changed:
            self._stopping = True
            self._state["stopping"] = True
            self._put("")

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return "end" in self._state

    def expect_page(self) -> None:
        """Wait for a page at the end, since one is being opened."""
        with self._changed:
            self._expected = True

    def wait_for_pages(self, seconds: float) -> None:
        """Wait until every page has the end of the run, but no longer than ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._pages or self._expected), seconds)

    def events(self) -> Generator[Event | None, None, None]:
        """The news for one page: at first everything, then what is new, until the run ends.

        None where there was nothing new for a while.
        """
        version = picture_number = points = thinned = 0
        with self._page_open():
            while True:
                with self._changed:
                    news = self._wait_for_news(version)
                    if thinned != self._curve.thinned:
                        points, thinned = 0, self._curve.thinned
                    event = {**self._state, "names": [*self._curve.names], "from": points}
                    event["points"] = self._curve.points[points:]
                    if picture_number != self._picture_number:
                        event["picture"] = self._picture
                    version, picture_number = self._version, self._picture_number
                    points = len(self._curve.points)
                yield event if news else None
                if "end" in event:
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self.ended, _PAUSE)

    def _wait_for_news(self, version: int) -> bool:
        return self._changed.wait_for(lambda: self._version > version, _HEARTBEAT)

    @contextmanager
    def _page_open(self) -> Iterator[None]:
        with self._changed:
            self._pages += 1
            self._expected = False
            self._version = max(self._version, 1)  # its first event comes at once
        try:
            yield
        finally:
            with self._changed:
                self._pages -= 1
                self._changed.notify_all()

    def _drawn(self, step: Step) -> str:
        """The image as it is now, or nothing where no page is open or none is due."""
        last = step.iteration == step.iterations
        if not self._pages or not (last or self._throttle.due()):
            return ""
        with self._throttle.spending():
            return data_url(as_jpeg(bounded(step.picture(), _LONGEST)))

    def _put(self, picture: str) -> None:
        if picture:
            self._picture = picture
            self._picture_number += 1
        self._version += 1
        self._changed.notify_all()

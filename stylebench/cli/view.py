"""``--view``: a run on a local page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from stylebench.watch.page.browser import open_in_browser
from stylebench.watch.page.feed import Feed
from stylebench.watch.page.server import serving


@contextmanager
def viewed(title: str | None) -> Iterator[Feed | None]:
    """Yield the feed of a run's page, which is served for as long as the block lasts.

    The address is printed whatever else is not: nobody could open the page without it.

    Args:
        title: of the page; None: there is none.
    """
    if title is None:
        yield None
        return
    feed = Feed(title)
    with serving(feed) as address:
        typer.echo(f"watch the run at {address}", err=True)
        if open_in_browser(address):
            feed.expect_page()
        yield feed

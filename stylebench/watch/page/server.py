"""The server of a run's page: on this machine alone, for those who know its address.

Another page in the same browser can neither read nor stop the run: the address holds a secret, and
a request has to name this machine (no name that an attacker had resolve to it) and to come from the
page itself.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Any

from stylebench.watch.page.feed import Event, Feed

_FOLDER = Path(__file__).parent
_FILES = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_LAST_WAIT = 3.0  # seconds that a page has to fetch the end of the run


@contextmanager
def serving(feed: Feed) -> Iterator[str]:
    """Yield the address of the page of ``feed``; at the end the server goes.

    Pages that are open are told how the run ended, and show it without the server.

    Raises:
        OSError: there is no port to be had.
    """
    server = _Server(feed)
    thread = Thread(target=server.serve_forever, args=(0.1,), name="page", daemon=True)
    thread.start()
    try:
        yield server.address
    finally:
        feed.end("failed", "the run ended early; its terminal says why")
        feed.wait_for_pages(_LAST_WAIT)
        server.shutdown()
        server.server_close()


class _Server(ThreadingTCPServer):
    """A thread a connection, none of which keeps the process alive."""

    daemon_threads = True

    def __init__(self, feed: Feed) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.feed = feed
        self.secret = secrets.token_urlsafe(16)
        port = self.server_address[1]
        self.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self.address = f"http://{self.hosts[0]}/{self.secret}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that goes away in the middle of an answer is no error."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _Server
    server_version, sys_version = "stylebench", ""
    timeout = 10  # seconds that a client may keep a thread waiting

    def do_GET(self) -> None:
        """The page, its files, and the events of the run."""
        if not self._admitted():
            return
        name = self._name()
        if name == "events":
            self._send_events()
        elif name in _FILES:
            if not name:
                self.server.feed.expect_page()
            file, kind = _FILES[name]
            self._answer(200, (_FOLDER / file).read_bytes(), kind)
        else:
            self._answer(404, b"not found\n")

    def do_POST(self) -> None:
        """The stop button."""
        if not self._admitted():
            return
        if self._name() == "stop":
            self.server.feed.stop()
            self._answer(204)
        else:
            self._answer(404, b"not found\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name there
        """Nothing: the terminal is the run's."""

    def _admitted(self) -> bool:
        """Whether the request knows the secret and comes from the page; else it is answered."""
        hosts, origin = self.server.hosts, self.headers.get("Origin")
        given = self.path.removeprefix("/").partition("/")[0]
        admitted = (
            self.headers.get("Host") in hosts
            and origin in (None, *(f"http://{host}" for host in hosts))
            and secrets.compare_digest(given.encode(), self.server.secret.encode())
        )
        if not admitted:
            self._answer(403, b"forbidden: open the address that stylebench printed\n")
        return admitted

    def _name(self) -> str:
        """The part of the path after the secret."""
        return self.path.removeprefix("/").partition("/")[2].partition("?")[0]

    def _answer(self, status: int, body: bytes = b"", kind: str = "text/plain") -> None:
        self._begin(status, kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_events(self) -> None:
        """Server-sent events: a page hears of the run's end also from a tab that is hidden."""
        self._begin(200, "text/event-stream")
        self.end_headers()
        with closing(self.server.feed.events()) as events, suppress(OSError):
            for event in events:
                self.wfile.write(_as_sent(event))

    def _begin(self, status: int, kind: str) -> None:
        self.send_response(status)
        for header, value in {**_HEADERS, "Content-Type": kind}.items():
            self.send_header(header, value)


def _as_sent(event: Event | None) -> bytes:
    """An event as its lines; a comment, which asks whether anyone is there, for None."""
    return b":\n\n" if event is None else f"data: {json.dumps(event)}\n\n".encode()

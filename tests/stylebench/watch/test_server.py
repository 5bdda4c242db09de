"""The page's server: who may read and stop a run, and when it goes."""

import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest

from stylebench.watch.page import feed as feeds
from stylebench.watch.page import server as servers
from stylebench.watch.page.feed import Feed
from stylebench.watch.page.server import serving


@pytest.fixture
def feed():
    return Feed("a run")


@pytest.fixture
def ask(feed, monkeypatch):
    """Send a request to the page's server: its status, headers and body."""
    monkeypatch.setattr(servers, "_LAST_WAIT", 0.1)
    with serving(feed) as address:

        def ask(name="", method="GET", path=None, **headers):
            parts = urlsplit(address)
            connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=30)
            own = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.putrequest(method, path or parts.path + name, skip_host="Host" in own)
            for header, value in own.items():
                connection.putheader(header, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()

        ask.address = address
        yield ask


def test_it_is_on_this_machine_alone(ask):
    parts = urlsplit(ask.address)
    assert parts.hostname == "127.0.0.1"
    for other in ("127.0.0.2", "::1"):  # this machine as well, and answered by 0.0.0.0 and ::
        with pytest.raises(OSError, match=r"refused|reach|assign|not supported|timed out"):
            socket.create_connection((other, parts.port), timeout=2)


def test_two_runs_have_two_secrets(feed):
    with serving(feed) as first, serving(Feed("another")) as second:
        assert urlsplit(first).path != urlsplit(second).path
        assert len(urlsplit(first).path) > 20


@pytest.mark.parametrize(
    ("name", "kind"),
    [("", "text/html"), ("page.css", "text/css"), ("page.js", "text/javascript")],
)
def test_the_page_and_its_files_are_served_and_kept_to_themselves(ask, name, kind):
    status, headers, body = ask(name)
    assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)
    assert len(body) > 500
    assert headers["Content-Security-Policy"].startswith("default-src 'self'; img-src data:")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert (headers["Referrer-Policy"], headers["Cache-Control"]) == ("no-referrer", "no-store")
    assert "Access-Control-Allow-Origin" not in headers


REQUESTS = [("GET", ""), ("GET", "page.js"), ("GET", "events"), ("POST", "stop")]


@pytest.mark.parametrize(("method", "name"), REQUESTS)
def test_nothing_is_answered_without_the_secret(ask, feed, method, name):
    for path in (f"/{name}", f"/{'x' * 22}/{name}", f"//{name}", f"/%e9/{name}"):
        assert ask(name, method, path=path)[0] == 403
    assert not feed._stopping


@pytest.mark.parametrize(("method", "name"), REQUESTS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},  # a name that was made to resolve to this machine
        {"Host": "127.0.0.1:1"},
        {"Host": ""},
        {"Origin": "http://attacker.example"},  # a page of another host
        {"Origin": "http://127.0.0.1:1"},  # or of another server on this machine
        {"Origin": "null"},
    ],
    ids=str,
)
def test_no_other_page_may_read_or_stop_a_run_even_with_the_secret(
    ask, feed, method, name, headers
):
    assert ask(name, method, **headers)[0] == 403
    assert not feed._stopping


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_page_itself_may_stop_the_run(ask, feed, host):
    own = f"{host}:{urlsplit(ask.address).port}"
    status, _, body = ask("stop", "POST", Host=own, Origin=f"http://{own}")
    assert (status, body, feed._stopping) == (204, b"", True)


@pytest.mark.parametrize(
    ("method", "name", "status"),
    [
        ("GET", "stop", 404),
        ("POST", "", 404),
        ("POST", "events", 404),
        ("GET", "../server.py", 404),
        ("GET", "server.py", 404),
        ("PUT", "stop", 501),
        ("DELETE", "", 501),
    ],
)
def test_what_is_not_there_is_not_found_and_a_link_stops_no_run(ask, feed, method, name, status):
    assert ask(name, method)[0] == status
    assert not feed._stopping


def test_events_are_told_until_the_run_ends(ask, feed, steps):
    for step in steps(3):
        feed.show(step)
    feed.end("done", "it is saved")
    status, headers, body = ask("events")
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    (event,) = body.decode().strip().split("\n\n")
    told = json.loads(event.removeprefix("data: "))
    assert (told["iteration"], told["end"]["text"]) == (3, "it is saved")


def test_a_page_that_goes_away_disturbs_nobody(ask, feed, steps, capfd, monkeypatch):
    monkeypatch.setattr(feeds, "_PAUSE", 0.0)
    parts = urlsplit(ask.address)
    with socket.create_connection((parts.hostname, parts.port)) as page:
        request = f"GET {parts.path}events HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n"
        page.sendall(request.encode())
        assert page.recv(10) == b"HTTP/1.0 2"
    run = steps(10_000)
    while feed._pages:  # until a write has failed
        feed.show(next(run))
    assert ask()[0] == 200
    assert capfd.readouterr() == ("", "")


def test_the_server_goes_with_the_run_and_says_so_where_nobody_else_did(feed, monkeypatch):
    monkeypatch.setattr(servers, "_LAST_WAIT", 0.1)
    with pytest.raises(RuntimeError), serving(feed) as address:
        raise RuntimeError
    assert feed.ended
    parts = urlsplit(address)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((parts.hostname, parts.port))
    assert next(feed.events())["end"]["how"] == "failed"

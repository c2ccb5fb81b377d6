"""The load generator, against a tiny server of its own."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from benchmarks.load import Load, LoadFailed, ask, matches_of, post

FOUND = b'{"matches": [{"id": "a"}]}'


@dataclass
class Seen:
    """What a server was asked, and from how many connections."""

    port: int = 0
    paths: set[str] = field(default_factory=set)
    bodies: list[bytes] = field(default_factory=list)
    clients: set[int] = field(default_factory=set)


Answer = Callable[[bytes], tuple[int, bytes]]


@contextmanager
def serving(answer: Answer) -> Iterator[Seen]:
    """Run a server that answers each body by `answer`, in two pieces."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Without it the second piece of an answer waits for the acknowledgement of the first.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.paths.add(self.path)
            seen.bodies.append(body)
            seen.clients.add(self.client_address[1])
            status, content = answer(body)
            if not status:
                self.close_connection = True
                return
            with suppress(ConnectionError):  # a client that gave up
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[:5])
                self.wfile.write(content[5:])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def echo(body: bytes) -> tuple[int, bytes]:
    return 200, b"<" + body + b">"


def test_every_body_is_sent_once_and_answers_come_in_the_order_of_the_requests() -> None:
    """Of 50 bodies each reaches the server once; an answer stands where its request did."""
    bodies = [b"body %d" % number for number in range(50)]
    with serving(echo) as seen:
        load = post(seen.port, "/path", bodies, clients=4)
    assert sorted(seen.bodies) == sorted(bodies)
    assert seen.paths == {"/path"}
    assert load.answers == [b"<" + body + b">" for body in bodies]
    assert load.latencies.shape == (50,)
    assert (load.latencies > 0).all()


@pytest.mark.parametrize(("clients", "connections"), [(1, 1), (3, 3), (9, 6)])
def test_each_client_keeps_one_connection(clients: int, connections: int) -> None:
    """So many clients use so many connections, and never more than there are requests."""
    with serving(echo) as seen:
        post(seen.port, "/", [b"x"] * 6, clients=clients)
    assert len(seen.clients) == connections


def test_time_is_what_the_server_took() -> None:
    """Six requests of 50 ms by two clients: each takes 50 ms, together three times that."""

    def slow(body: bytes) -> tuple[int, bytes]:
        time.sleep(0.05)
        return echo(body)

    with serving(slow) as seen:
        load = post(seen.port, "/", [b"x"] * 6, clients=2)
    assert load.latencies.min() >= 0.05
    assert load.seconds >= 0.15
    assert load.seconds < load.latencies.sum()  # two at a time
    assert load.rate == 6 / load.seconds
    assert 0 < load.cpu_seconds < load.seconds


def test_percentiles_are_latencies_that_occurred() -> None:
    """Of 1 to 100 ms, half are at most 50 ms, and 99 of 100 at most 99 ms."""
    load = Load([b""] * 100, np.arange(100, 0, -1) / 1e3, 1.0, 0.1)
    assert [load.percentile(percent) for percent in (50, 99, 100)] == pytest.approx([50, 99, 100])


def test_questions_are_asked_as_a_client_would() -> None:
    """A lookup's body holds the question, and asks for ten matches."""
    with serving(lambda _: (200, FOUND)) as seen:
        ask(seen.port, ["Où ?"], clients=1)
    assert seen.paths == {"/v1/collections/default/duplicates"}
    assert [json.loads(body) for body in seen.bodies] == [{"question": "Où ?", "limit": 10}]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((503, b'{"detail": "full"}'), r"request 7 was answered HTTP/1.1 503: .*full"),
        ((201, FOUND), r"request 7 was answered HTTP/1.1 201"),
        ((0, b""), r"request 7: the connection was closed"),
        ((200, b'{"matches": []}'), r"an answer without a match"),
        ((200, b'{"found": []}'), r"not an answer with matches"),
        ((200, b"[]"), r"not an answer with matches"),
        ((200, b"hello"), r"not an answer with matches: b'hello'"),
    ],
)
def test_one_bad_answer_fails_the_run(answer: tuple[int, bytes], said: str) -> None:
    """One answer of ten that is not as it should be is enough, and is named."""

    def mostly(body: bytes) -> tuple[int, bytes]:
        return answer if b'"bad"' in body else (200, FOUND)

    questions = [*"abcdefg", "bad", "h", "i"]
    with serving(mostly) as seen, pytest.raises(LoadFailed, match=said):
        ask(seen.port, questions, clients=2)


def test_other_statuses_count_only_where_they_are_expected() -> None:
    """An import expects 201, which fails a lookup."""
    with serving(lambda _: (201, b"{}")) as seen:
        assert post(seen.port, "/", [b"x"], clients=1, statuses=(201,)).answers == [b"{}"]


def test_a_server_that_hangs_fails_the_run_in_time() -> None:
    """What was not answered within the limit is counted."""
    release = threading.Event()

    def hang(body: bytes) -> tuple[int, bytes]:
        if body == b"last":
            release.wait(10)
        return echo(body)

    with serving(hang) as seen:
        with pytest.raises(LoadFailed, match="only 2 of 3 requests answered within 0 s"):
            post(seen.port, "/", [b"x", b"x", b"last"], clients=1, timeout=0.4)
        release.set()


def test_a_server_that_is_not_there_fails_the_run() -> None:
    """Where nothing listens, there is nothing to measure."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(LoadFailed, match="no connection"):
            post(port, "/", [b"x"], clients=1)


def test_matches_come_as_the_answer_has_them() -> None:
    """The matches of an answer, unchanged."""
    assert matches_of(b'{"matches": [{"id": "b"}, {"id": "a"}]}') == [{"id": "b"}, {"id": "a"}]

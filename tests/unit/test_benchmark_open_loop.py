"""The open loop, against a tiny server that can stall."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks.load import LoadFailed, get_request, post_request
from benchmarks.open_loop import Opened, schedule, send_when_due

STALL = 0.2


@contextmanager
def serving(*, stall_at: int = -1, status: int = 200, silent: bool = False) -> Iterator[int]:
    """Run a server and yield its port.

    stall_at: the request, counted from 0, at which it answers nobody for `STALL` seconds.
    silent: it never answers.
    """
    ready = threading.Event()
    port = 0
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def main() -> None:
        nonlocal port
        seen = 0
        lock = asyncio.Lock()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal seen
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    if silent:
                        await over.wait()
                        return
                    async with lock:
                        seen += 1
                        if seen - 1 == stall_at:
                            await asyncio.sleep(STALL)
                    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()
        await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    ready.wait(5)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def run(port: int, due: np.ndarray, **options: float) -> Opened:
    operations = [(get_request(port, f"/{place}"),) for place in range(len(due))]
    return send_when_due(port, operations, due, **options)  # type: ignore[arg-type]


def test_a_stall_counts_for_everyone_who_was_due_in_it() -> None:
    """Of 200 requests over a second, a stall of 200 ms holds up about a fifth.

    A closed loop by one client would have sent nothing meanwhile, and shown one slow request.
    """
    due = np.arange(200) * 0.005
    with serving(stall_at=50) as port:
        opened = run(port, due)
    assert opened.kept_up
    assert opened.answers == [b"ok"] * 200
    assert opened.latencies.max() >= STALL * 0.95
    assert 30 <= (opened.latencies > 0.02).sum() <= 80
    assert opened.percentile(90) > 80
    assert opened.percentile(50) < 40


def test_requests_leave_when_they_are_due() -> None:
    """A request leaves within milliseconds of its moment, and the run lasts as the schedule."""
    due = np.arange(50) * 0.01
    with serving() as port:
        opened = run(port, due)
    assert np.median(opened.late) < 0.01
    assert opened.seconds >= due[-1]
    assert (opened.latencies > opened.late).all()
    assert 0 < opened.cpu_seconds < opened.seconds


def test_who_does_not_keep_up_is_said_to_and_counts_what_it_took_so_far() -> None:
    """Of a server that never answers, the latency is at least the time waited."""
    with serving(silent=True) as port:
        opened = run(port, np.array([0.0, 0.01]), grace=0.2)
    assert not opened.kept_up
    assert opened.answers == [b"", b""]
    assert opened.latencies.min() >= 0.19


def test_too_many_waiting_end_the_run() -> None:
    """A backlog beyond the limit is not waited for."""
    with serving(silent=True) as port:
        opened = run(port, np.arange(1000) * 0.001, most_waiting=10)
    assert not opened.kept_up
    assert opened.seconds < 0.9


def test_one_bad_answer_fails_the_run() -> None:
    """A status that is not expected is no measurement."""
    with serving(status=503) as port, pytest.raises(LoadFailed, match=r"HTTP/1\.1 503"):
        run(port, np.array([0.0]))


def test_a_server_that_is_not_there_fails_the_run() -> None:
    """Where nothing listens, there is nothing to measure."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(LoadFailed, match="no connection"):
            run(port, np.array([0.0]))


def test_a_schedule_is_drawn_by_its_seed() -> None:
    """The same seed gives the same moments; on average `rate` of them are due in a second."""
    due = schedule(10_000, 200.0, seed=3)
    assert (due == schedule(10_000, 200.0, seed=3)).all()
    assert (due != schedule(10_000, 200.0, seed=4)).any()
    assert (np.diff(due) >= 0).all()
    assert due[-1] == pytest.approx(50, rel=0.05)


def test_requests_are_whole() -> None:
    """A POST says its length in bytes, not characters; a GET has no body."""
    head, _, body = post_request(80, "/p", '"ü"'.encode()).partition(b"\r\n\r\n")
    assert b"Content-Length: 4" in head
    assert body == '"ü"'.encode()
    assert get_request(80, "/g") == b"GET /g HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n"

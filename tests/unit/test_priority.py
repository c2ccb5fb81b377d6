"""Threads that leave the processor to others."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

from app.priority import step_back

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="niceness is a thread's own on Linux alone"
)


def niceness() -> int:
    """Return that of the calling thread."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def in_a_thread(work: Callable[[], None]) -> None:
    """Run something in a thread of its own, and wait for it."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_threads_that_it_starts_are_as_far_back() -> None:
    """The thread that started it is not."""
    base = niceness()
    seen: list[int] = []

    def work() -> None:
        step_back(5)
        seen.append(niceness())
        in_a_thread(lambda: seen.append(niceness()))

    in_a_thread(work)
    assert seen == [min(base + 5, 19)] * 2
    assert niceness() == base


def test_nothing_is_further_back_than_the_last() -> None:
    """Steps beyond the system's own limit end there, without an error."""
    seen: list[int] = []

    def work() -> None:
        for _ in range(3):
            step_back(15)
        seen.append(niceness())

    in_a_thread(work)
    assert seen == [19]

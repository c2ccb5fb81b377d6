"""Who gets the processor first."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress


def step_back(steps: int) -> None:
    """Leave the processor to the other threads, from here on, where they want it.

    For the calling thread, which cannot take it back, and the threads that it starts. On Linux
    alone, where niceness is a thread's own.
    steps: of niceness; with 5 it gets a quarter of a core that another thread wants, with 10 a
    tenth.
    """
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    with suppress(OSError):  # where a process may not know or change its priorities
        nice = min(os.getpriority(os.PRIO_PROCESS, thread) + steps, 19)
        os.setpriority(os.PRIO_PROCESS, thread, nice)

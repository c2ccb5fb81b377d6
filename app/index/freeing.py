"""Letting go of a lot of memory while other threads run on."""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

_LEAST = 16 << 20  # bytes; less is freed in well under a millisecond
_ADVICE = getattr(mmap, "MADV_DONTNEED", None) if sys.platform == "linux" else None
_PIECE = 16 << 20  # bytes a call: none holds up for long whoever asks the system for memory
_libc = ctypes.CDLL(None)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE = 1 << 20  # bytes
_SPARE = 16 << 20  # bytes kept for what is smaller: giving back and asking again takes time


def give_back_when_freed() -> None:
    """Let every block of a megabyte or more go back to the system as soon as it is freed.

    By itself glibc keeps ever larger ones, up to 32 MB, once some were freed: a service that grew
    to a million anchors kept a hundred megabytes. Elsewhere than with glibc nothing is done.
    """
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        _libc.mallopt(_M_TRIM_THRESHOLD, _SPARE)


def give_back(vector: Any) -> None:
    """Give the pages of one of FAISS's vectors back to the system; what it held is gone.

    FAISS's wrapper deletes an index with the interpreter lock held: 50 ms for a gigabyte, in which
    every other thread waits. A call through ctypes lets go of it, and leaves little to delete.
    vector: for nothing but deletion from here on.
    """
    size = vector.byte_size()
    if _ADVICE is None or size < _LEAST:
        return
    # Whole pages inside alone: what lies around them may be someone else's.
    start = -(-int(vector.data()) // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (int(vector.data()) + size) // mmap.PAGESIZE * mmap.PAGESIZE
    for piece in range(start, end, _PIECE):
        _libc.madvise(piece, min(_PIECE, end - piece), _ADVICE)

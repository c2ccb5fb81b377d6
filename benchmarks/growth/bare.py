"""The encoder alone, in this process: what a service's figures are compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from app import DEFAULT_ENCODER
from app.encoders.artifact import find_artifact, load_artifact
from app.encoders.onnx import OnnxEncoder
from app.runtime import CHUNK
from benchmarks.growth.anchors import BATCH
from benchmarks.service import cores


def encoder() -> OnnxEncoder:
    """Return the encoder that a service with its own settings uses."""
    return OnnxEncoder(load_artifact(find_artifact(DEFAULT_ENCODER, [])))


def rate(bare: OnnxEncoder, texts: Sequence[str]) -> float:
    """Return texts encoded a second, by as many threads as the service has.

    In calls like the service's: requests of `BATCH` texts, sorted by length, `CHUNK` at a time.
    """
    chunks = []
    for start in range(0, len(texts), BATCH):
        request = sorted(texts[start : start + BATCH], key=len)
        chunks += [request[place : place + CHUNK] for place in range(0, len(request), CHUNK)]
    with ThreadPoolExecutor(cores()) as threads:
        list(threads.map(bare.encode, chunks[: 2 * cores()]))  # threads and buffers are made
        started = time.perf_counter()
        list(threads.map(bare.encode, chunks))
        return len(texts) / (time.perf_counter() - started)


def latencies(bare: OnnxEncoder, questions: Sequence[str]) -> list[float]:
    """Return how long the encoding of each question takes, one at a time, in seconds."""
    taken = []
    for question in questions:
        started = time.perf_counter()
        bare.encode([question])
        taken.append(time.perf_counter() - started)
    return taken

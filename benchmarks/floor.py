"""The floor: what looking up costs without a service around it.

One process a core; each tokenises a question, encodes it with Deja's own encoder and searches an
exact FAISS index, one question after the other, and keeps nothing between them. Nobody can answer
over HTTP with this encoder at this rate; the distance to it is what a service costs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from app.encoders.artifact import find_artifact, load_artifact
from app.encoders.onnx import OnnxEncoder
from app.settings import Settings
from benchmarks.load import Load
from benchmarks.program import Program, programs, serve
from benchmarks.service import cores

NEAREST = 10
_CHUNK = 256  # texts a call, when the anchors are encoded
_LEAD_SECONDS = 0.05  # from the command to the common start


class Floor:
    """Some workers that hold the same anchors."""

    def __init__(self, workers: Sequence[Program]) -> None:
        self._workers = workers

    def fill(self, texts: Sequence[str], labels: Sequence[str], vectors: Path) -> None:
        """Let all workers hold `texts`. vectors: the file that the first one writes for the rest.

        Raises LoadFailed.
        """
        self._workers[0].call(do="encode", texts=texts, path=str(vectors))
        for worker in self._workers:
            worker.tell(do="hold", path=str(vectors), texts=texts, labels=labels)
        for worker in self._workers:
            worker.hear()

    def ask(
        self,
        questions: Sequence[str],
        workers: int | None = None,
        labels: Sequence[str] | None = None,
    ) -> Load:
        """Return what looking up `questions` measured, dealt to workers that start together.

        workers: how many of them, all by default. labels: of each question, whose anchors alone are
        searched. Answers are JSON lists of texts, the best first. Raises LoadFailed.
        """
        chosen = self._workers[:workers]
        start = time.perf_counter() + _LEAD_SECONDS
        for place, worker in enumerate(chosen):
            part = slice(place, None, len(chosen))
            wanted = None if labels is None else labels[part]
            worker.tell(do="ask", questions=questions[part], start=start, labels=wanted)
        heard = [worker.hear() for worker in chosen]
        answers = [b""] * len(questions)
        latencies = np.zeros(len(questions))
        for place, answer in enumerate(heard):
            answers[place :: len(chosen)] = [json.dumps(one).encode() for one in answer["answers"]]
            latencies[place :: len(chosen)] = answer["latencies"]
        return Load(answers, latencies, max(answer["end"] for answer in heard) - start, 0.0)

    def cpu_seconds(self) -> float:
        """Return the processor time that all workers took."""
        return sum(worker.cpu_seconds() for worker in self._workers)

    def rss(self) -> int:
        """Return the memory of all workers, in bytes."""
        return sum(worker.rss() for worker in self._workers)

    def pause(self) -> None:
        """Stop all workers from running, until `resume`."""
        for worker in self._workers:
            worker.pause()

    def resume(self) -> None:
        """Let all workers run again."""
        for worker in self._workers:
            worker.resume()


@contextmanager
def floor(folder: Path, texts: Sequence[str], labels: Sequence[str] = ()) -> Iterator[Floor]:
    """Start one worker a core that holds `texts`. folder: for their vectors and their log."""
    command = [sys.executable, "-m", "benchmarks.floor"]
    with programs(command, folder / "floor.log", cores()) as workers:
        made = Floor(workers)
        made.fill(texts, labels, folder / "floor.npy")
        yield made


class _Worker:
    """One process: an encoder and an index."""

    def __init__(self) -> None:
        faiss.omp_set_num_threads(1)
        self._encoder = OnnxEncoder(load_artifact(find_artifact(Settings().encoder)))
        self._index = faiss.IndexFlatIP(self._encoder.dimension)
        self._texts: list[str] = []
        self._bits: dict[str, Any] = {}  # by label, which of the texts have it

    def encode(self, texts: list[str], path: str) -> dict[str, Any]:
        """Write the vectors of some texts to a file."""
        parts = [texts[start : start + _CHUNK] for start in range(0, len(texts), _CHUNK)]
        np.save(path, np.concatenate([self._encoder.encode(part).vectors for part in parts]))
        return {}

    def hold(self, texts: list[str], path: str, labels: list[str]) -> dict[str, Any]:
        """Take texts, the file of their vectors, and the label of each, if they have any."""
        self._index.add(np.load(path))
        self._texts = texts
        for label in set(labels):
            having = np.array([one == label for one in labels])
            self._bits[label] = np.packbits(having, bitorder="little")
        return {}

    def ask(self, questions: list[str], start: float, labels: list[str] | None) -> dict[str, Any]:
        """Answer questions from a moment on (perf_counter, which all processes share).

        labels: of each, whose texts alone are searched.
        """
        time.sleep(max(0.0, start - time.perf_counter()))
        found, latencies = [], []
        wanted: Sequence[str | None] = [None] * len(questions) if labels is None else labels
        for question, label in zip(questions, wanted, strict=True):
            began = time.perf_counter()
            vectors = self._encoder.encode([question]).vectors
            _, places = self._index.search(vectors, NEAREST, params=self._only(label))
            latencies.append(time.perf_counter() - began)
            found.append(places[0])
        end = time.perf_counter()
        # Not part of the floor: only for the check of what it found.
        answers = [[self._texts[place] for place in places if place >= 0] for places in found]
        return {"answers": answers, "latencies": latencies, "end": end}

    def _only(self, label: str | None) -> Any:
        if label is None:
            return None
        return faiss.SearchParameters(sel=faiss.IDSelectorBitmap(self._bits[label]))


def main() -> None:
    """Be one worker."""
    worker = _Worker()
    serve({"encode": worker.encode, "hold": worker.hold, "ask": worker.ask})


if __name__ == "__main__":
    main()

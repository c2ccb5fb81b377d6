"""The application in front of Chroma's server: it encodes each text itself, then asks the server.

Run by the peers' Python; see `benchmarks.program` for how it is asked. Each thread takes the next
text, encodes it and sends the query, as a web application with a pool of threads would.
"""

from __future__ import annotations

import argparse
import collections
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import chromadb
from chromadb.config import Settings
from sentence_transformers import SentenceTransformer

from benchmarks.program import serve

NAME = "questions"
NEAREST = 10


class Client:
    """The encoder, and a connection to the server."""

    def __init__(self, port: int, model: str) -> None:
        self._model = SentenceTransformer(model, device="cpu")
        self._port = port
        self._collection: Any = None

    def connect(self) -> dict[str, Any]:
        """Open the collection, or make it."""
        settings = Settings(anonymized_telemetry=False)
        client = chromadb.HttpClient(host="127.0.0.1", port=self._port, settings=settings)
        self._collection = client.get_or_create_collection(
            NAME, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        return {"anchors": self._collection.count()}

    def register(self, batches: list[list[list[str]]], clients: int) -> dict[str, Any]:
        """Register batches of (id, text, label), so many at a time."""

        def one(batch: list[list[str]]) -> str:
            ids, texts, labels = zip(*batch, strict=True)
            vectors = self._model.encode(list(texts), normalize_embeddings=True)
            self._collection.add(
                ids=list(ids),
                embeddings=vectors,
                documents=list(texts),
                metadatas=[{"label": label} for label in labels],
            )
            return json.dumps(len(ids))

        return _measured(one, batches, clients)

    def ask(
        self, questions: list[list[str]], clients: int, labels: list[str] | None = None
    ) -> dict[str, Any]:
        """Look up questions, one or several a query, so many queries at a time.

        labels: of each query, which anchors are wanted; None for all.
        """
        wanted = [None] * len(questions) if labels is None else labels
        asked = list(zip(questions, wanted, strict=True))
        return _measured(lambda one: self._find(*one), asked, clients)

    def ask_when_due(
        self, questions: list[list[str]], due: list[float], clients: int, grace: float
    ) -> dict[str, Any]:
        """Look up questions, each once it is due (seconds from the start)."""
        waiting = collections.deque(range(len(due)))
        lock = threading.Lock()
        answers = [""] * len(due)
        ended: list[float | None] = [None] * len(due)
        sent: list[float | None] = [None] * len(due)
        cpu, start = time.process_time(), time.perf_counter()

        def work() -> None:
            while True:
                with lock:
                    if not waiting:
                        return
                    place = waiting.popleft()
                wait = start + due[place] - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                elif time.perf_counter() - start > due[-1] + grace:
                    return
                sent[place] = time.perf_counter() - start
                answers[place] = self._find(questions[place])
                ended[place] = time.perf_counter() - start

        with ThreadPoolExecutor(clients) as pool:
            for future in [pool.submit(work) for _ in range(clients)]:
                future.result()
        seconds = time.perf_counter() - start
        cpu = time.process_time() - cpu
        return {
            "answers": answers,
            "ended": [seconds if moment is None else moment for moment in ended],
            "sent": [seconds if moment is None else moment for moment in sent],
            "kept_up": all(moment is not None and moment <= due[-1] + grace for moment in ended),
            "seconds": seconds,
            "cpu_seconds": cpu,
        }

    def _find(self, questions: list[str], label: str | None = None) -> str:
        vectors = self._model.encode(questions, normalize_embeddings=True)
        found = self._collection.query(
            query_embeddings=vectors,
            n_results=NEAREST,
            where=None if label is None else {"label": label},
            include=["documents", "distances"],
        )
        return json.dumps([list(texts) for texts in found["documents"]])


def _measured(one: Any, parts: list[Any], clients: int) -> dict[str, Any]:
    """Return the answers of `one` to each part, by so many threads, and what they took."""

    def timed(part: Any) -> tuple[str, float]:
        began = time.perf_counter()
        return one(part), time.perf_counter() - began

    cpu, start = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(timed, parts))
    return {
        "answers": [answer for answer, _ in done],
        "latencies": [seconds for _, seconds in done],
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    made = Client(arguments.port, arguments.model)
    serve(
        {
            "connect": made.connect,
            "register": made.register,
            "ask": made.ask,
            "ask_when_due": made.ask_when_due,
        }
    )

"""The obvious service: FastAPI, sentence-transformers and an exact FAISS index, nothing more.

What a competent developer writes first; the peer that `benchmarks.side_by_side` measures against.
"""

from __future__ import annotations

import argparse
import threading
from typing import Any

import faiss
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Question(BaseModel):
    """A question to find duplicates of."""

    question: str
    limit: int = 10


def create_app(folder: str) -> FastAPI:
    """Return the service. folder: where the encoder's weights are."""
    app = FastAPI()
    model = SentenceTransformer(folder, device="cpu")
    index = faiss.IndexFlatIP(model.get_sentence_embedding_dimension())
    known: list[str] = []
    lock = threading.Lock()

    @app.get("/readyz")
    def ready() -> dict[str, int]:
        return {"anchors": len(known)}

    @app.post("/anchors")
    def register(texts: list[str]) -> dict[str, int]:
        vectors = model.encode(texts, normalize_embeddings=True)
        with lock:
            index.add(vectors)
            known.extend(texts)
        return {"anchors": len(known)}

    @app.post("/duplicates")
    def find(body: Question) -> dict[str, list[dict[str, Any]]]:
        vectors = model.encode([body.question], normalize_embeddings=True)
        similarities, places = index.search(vectors, body.limit)
        return {
            "matches": [
                {"id": int(place), "text": known[place], "similarity": float(similarity)}
                for similarity, place in zip(similarities[0], places[0], strict=True)
            ]
        }

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    uvicorn.run(create_app(arguments.model), port=arguments.port, log_level="warning")

"""The obvious service: FastAPI, sentence-transformers and an exact FAISS index, nothing more.

What a competent developer writes first; the peer that `benchmarks.bench` measures against.
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


class Questions(BaseModel):
    """Questions to find duplicates of."""

    questions: list[str]
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

    def search(questions: list[str], limit: int) -> list[list[dict[str, Any]]]:
        vectors = model.encode(questions, normalize_embeddings=True)
        return [
            [
                {"id": int(place), "text": known[place], "similarity": float(similarity)}
                for similarity, place in zip(*found, strict=True)
            ]
            for found in zip(*index.search(vectors, limit), strict=True)
        ]

    @app.post("/duplicates")
    def find(body: Question) -> dict[str, Any]:
        return {"matches": search([body.question], body.limit)[0]}

    @app.post("/duplicates:batch")
    def find_many(body: Questions) -> dict[str, Any]:
        found = search(body.questions, body.limit)
        return {"results": [{"matches": matches} for matches in found]}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    uvicorn.run(create_app(arguments.model), port=arguments.port, log_level="warning")

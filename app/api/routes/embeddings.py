"""Embeddings in OpenAI's shape, so that its client libraries work unchanged."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import ReadyRuntime, encode
from app.api.schemas import QUESTIONS_LIMIT, In, TextIn
from app.domain.errors import InvalidField, ModelNotFound
from app.domain.ports import Encoded
from app.runtime import Runtime

router = APIRouter(prefix="/v1", tags=["embeddings"])


class EmbeddingsIn(In):
    """Texts to turn into vectors."""

    input: TextIn | Annotated[list[TextIn], Field(min_length=1, max_length=QUESTIONS_LIMIT)]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="Only the encoder's own is possible.")
    user: str | None = Field(None, description="Ignored.")


class EmbeddingOut(BaseModel):
    """One vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    truncated: bool


class UsageOut(BaseModel):
    """How many tokens were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsOut(BaseModel):
    """One vector a text, in order."""

    object: Literal["list"] = "list"
    data: list[EmbeddingOut]
    model: str
    usage: UsageOut


class ModelOut(BaseModel):
    """A model that can be asked for embeddings."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["deja"] = "deja"


class ModelsOut(BaseModel):
    """Every model that can be asked for embeddings: the one loaded."""

    object: Literal["list"] = "list"
    data: list[ModelOut]


@router.post("/embeddings", response_model=EmbeddingsOut)
async def create_embeddings(body: EmbeddingsIn, runtime: ReadyRuntime) -> Response:
    """Return the vectors of up to 256 texts."""
    encoder = runtime.encoder
    if body.model != encoder.name:
        raise ModelNotFound(body.model, encoder.name)
    if body.dimensions not in (None, encoder.dimension):
        raise InvalidField(
            ("body", "dimensions"), f"must be {encoder.dimension}, the dimension of the encoder"
        )
    texts = [body.input] if isinstance(body.input, str) else body.input
    encoded = await encode(runtime, texts)
    as_base64 = body.encoding_format == "base64"
    content = await run_in_threadpool(_answer, encoded, encoder.name, as_base64=as_base64)
    return Response(content, media_type="application/json")


def _answer(encoded: Encoded, model: str, *, as_base64: bool) -> str:
    """Return the body of an answer; a hundred thousand numbers would hold up the event loop."""
    used = sum(encoded.tokens)
    answer = EmbeddingsOut(
        data=[
            EmbeddingOut(
                index=place,
                embedding=base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if as_base64
                else vector.tolist(),
                truncated=encoded.truncated[place],
            )
            for place, vector in enumerate(encoded.vectors)
        ],
        model=model,
        usage=UsageOut(prompt_tokens=used, total_tokens=used),
    )
    return answer.model_dump_json()


@router.get("/models")
async def list_models(runtime: ReadyRuntime) -> ModelsOut:
    """Return the one model loaded."""
    return ModelsOut(data=[_model_out(runtime)])


@router.get("/models/{model}")
async def get_model(model: str, runtime: ReadyRuntime) -> ModelOut:
    """Return the one model loaded, by its name."""
    if model != runtime.encoder.name:
        raise ModelNotFound(model, runtime.encoder.name)
    return _model_out(runtime)


def _model_out(runtime: Runtime) -> ModelOut:
    # The shape asks for a creation time; the artifact is identified by its hash, not by one.
    return ModelOut(id=runtime.encoder.name, created=0)

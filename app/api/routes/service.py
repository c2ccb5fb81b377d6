"""Is it alive, is it ready, what is it?"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app import __version__
from app.api.dependencies import AnyRuntime
from app.api.schemas import (
    ANCHORS_LIMIT,
    MATCHES_LIMIT,
    QUESTIONS_LIMIT,
    TEXT_LIMIT,
    CutOffsOut,
)
from app.domain.anchors import CollectionSettings

router = APIRouter(tags=["service"])


class AliveOut(BaseModel):
    """The process runs."""

    status: Literal["alive"] = "alive"


class ReadyOut(BaseModel):
    """Requests are answered."""

    status: Literal["ready"] = "ready"


class EncoderOut(BaseModel):
    """The encoder artifact in use."""

    name: str
    version: str
    fingerprint: str
    base_model: str
    dimension: int
    max_tokens: int
    precision: str
    licence: str


class CalibrationOut(BaseModel):
    """Where probabilities come from, and the cut-offs a collection has if it wants nothing else."""

    base_rate: float
    population: str
    pairs: int
    cut_offs: CutOffsOut


class LimitsOut(BaseModel):
    """What a request may hold."""

    text_characters: int = TEXT_LIMIT
    questions: int = QUESTIONS_LIMIT
    anchors: int = ANCHORS_LIMIT
    matches: int = MATCHES_LIMIT
    body_bytes: int
    queued_texts: int


class InfoOut(BaseModel):
    """What this service is made of."""

    service: Literal["deja"] = "deja"
    version: str
    encoder: EncoderOut
    calibration: CalibrationOut
    limits: LimitsOut
    threads: int
    libraries: dict[str, str]


@router.get("/livez")
async def livez() -> AliveOut:
    """Answer whenever the process runs."""
    return AliveOut()


@router.get("/readyz")
async def readyz(runtime: AnyRuntime) -> ReadyOut:
    """Answer 200 when requests are answered, 503 with what is still to be done before."""
    runtime.readiness.require()
    return ReadyOut()


@router.get("/v1/info")
async def info(runtime: AnyRuntime) -> InfoOut:
    """Return versions, the encoder, its calibration and the limits."""
    manifest, calibration = runtime.artifact.manifest, runtime.artifact.calibration
    cut_offs = runtime.judge.cut_offs(CollectionSettings())
    settings = runtime.settings
    return InfoOut(
        version=__version__,
        encoder=EncoderOut(
            name=manifest.name,
            version=manifest.version,
            fingerprint=runtime.artifact.fingerprint,
            base_model=manifest.base_model,
            dimension=manifest.dimension,
            max_tokens=manifest.max_tokens,
            precision=manifest.precision,
            licence=manifest.licence,
        ),
        calibration=CalibrationOut(
            base_rate=calibration.base_rate,
            population=calibration.population,
            pairs=calibration.pairs,
            cut_offs=CutOffsOut.of(cut_offs),
        ),
        limits=LimitsOut(
            body_bytes=settings.max_body_mib * 2**20, queued_texts=settings.queue_size
        ),
        threads=settings.threads,
        libraries={
            "python": platform.python_version(),
            **{name: version(name) for name in ("fastapi", "onnxruntime", "faiss-cpu")},
        },
    )

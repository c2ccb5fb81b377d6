"""Do these two texts ask the same?"""

from __future__ import annotations

from fastapi import APIRouter

from app.api.dependencies import ReadyRuntime
from app.api.schemas import CompareIn, CompareOut, ComparisonOut, figure
from app.runtime import CHUNK

router = APIRouter(prefix="/v1", tags=["compare"])


@router.post("/compare")
async def compare(body: CompareIn, runtime: ReadyRuntime) -> CompareOut:
    """Compare up to 256 pairs of texts, by the cut-offs of the shipped calibration."""
    pairs = [(pair.left, pair.right) for pair in body.pairs]
    half = CHUNK // 2
    parts = [pairs[start : start + half] for start in range(0, len(pairs), half)]
    compared = await runtime.workers.map_bulk(runtime.compare, parts, 2 * len(pairs))
    return CompareOut(
        results=[
            ComparisonOut(
                similarity=figure(one.similarity),
                probability=figure(one.probability),
                verdict=one.verdict,
                truncated=one.truncated,
            )
            for part in compared
            for one in part
        ],
        encoder=runtime.encoder.name,
    )

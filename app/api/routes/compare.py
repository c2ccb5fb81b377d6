"""Do these two texts ask the same?"""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from app.api.answers import CompareOut, explanation_out, json_answer
from app.api.dependencies import ReadyRuntime
from app.api.schemas import CompareIn, figure
from app.runtime import CHUNK
from app.usecases.compare import Comparison

router = APIRouter(prefix="/v1", tags=["compare"])


@router.post("/compare", response_model=CompareOut)
async def compare(body: CompareIn, runtime: ReadyRuntime) -> Response:
    """Compare up to 256 pairs of texts, by the cut-offs of the shipped calibration."""
    pairs = [(pair.left, pair.right) for pair in body.pairs]
    half = CHUNK // 2
    parts = [pairs[start : start + half] for start in range(0, len(pairs), half)]
    run = partial(runtime.compare, explain=body.explain)
    compared = await runtime.workers.map_bulk(run, parts, 2 * len(pairs))
    results = [_comparison_out(one) for part in compared for one in part]
    return json_answer({"results": results, "encoder": runtime.encoder.name})


def _comparison_out(one: Comparison) -> dict[str, Any]:
    """Return what `ComparisonOut` describes."""
    shown: dict[str, Any] = {
        "similarity": figure(one.similarity),
        "probability": figure(one.probability),
        "verdict": one.verdict,
        "truncated": one.truncated,
    }
    if one.explanation is not None:
        shown["explanation"] = explanation_out(one.explanation)
    return shown

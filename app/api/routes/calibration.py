"""A collection's own correction of the calibration: set, seen and undone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from app.api.calibration_schemas import (
    CollectionCalibrationOut,
    CorrectionIn,
    CorrectionOut,
    VerdictCounts,
)
from app.api.dependencies import CollectionName, ReadyRuntime, known_collection, write
from app.api.schemas import CutOffsOut
from app.domain.anchors import Collection
from app.domain.errors import InvalidField
from app.domain.recalibration import Fitted
from app.runtime import Runtime
from app.usecases.writer import Writing

router = APIRouter(prefix="/v1/collections/{collection}", tags=["calibration"])


@router.get("/calibration")
async def get_calibration(
    collection: CollectionName, runtime: ReadyRuntime
) -> CollectionCalibrationOut:
    """Return what a collection judges by."""

    def read() -> CollectionCalibrationOut:
        found = runtime.store.collection(collection)
        return _calibration_out(runtime, found, runtime.store.correction(found.key))

    return await run_in_threadpool(read)


@router.put("/calibration")
async def put_calibration(
    collection: CollectionName,
    body: CorrectionIn,
    runtime: ReadyRuntime,
    dry_run: Annotated[
        bool, Query(description="Answer as if it were stored, and store nothing.")
    ] = False,
) -> CollectionCalibrationOut:
    """Set a collection's correction; it holds from the next lookup on."""
    if body.encoder != runtime.encoder.fingerprint:
        raise InvalidField(
            ("body", "encoder"), "is not the encoder in use; fit the correction again"
        )
    correction = body.to_correction()
    counts = (body.verdicts.duplicate, body.verdicts.distinct)
    if dry_run:
        found = await known_collection(runtime, collection)
        base_rate = found.settings.base_rate or 0.0
        fitted = Fitted(correction, *counts, body.encoder, datetime.now(UTC), base_rate)
        return _calibration_out(runtime, replace(found, correction=correction), fitted)

    def command(writing: Writing) -> CollectionCalibrationOut:
        key = writing.rows.collection(collection).key
        writing.rows.put_correction(key, correction, counts)
        found = writing.rows.collection(collection)
        return _calibration_out(runtime, found, writing.rows.correction(key))

    return await write(runtime, command)


@router.delete("/calibration", status_code=204)
async def delete_calibration(collection: CollectionName, runtime: ReadyRuntime) -> Response:
    """Go back to the calibration that came with the encoder; 204 also where that is in force."""

    def command(writing: Writing) -> None:
        key = writing.rows.collection(collection).key
        writing.rows.put_correction(key, None, (0, 0))

    await write(runtime, command)
    return Response(status_code=204)


def _calibration_out(
    runtime: Runtime, collection: Collection, fitted: Fitted | None
) -> CollectionCalibrationOut:
    cut_offs = runtime.judge.standard_of(collection).cut_offs
    own = collection.settings.base_rate
    outdated_by = fitted and fitted.outdated_by(runtime.encoder.fingerprint, own)
    return CollectionCalibrationOut(
        base_rate=runtime.judge.calibration.base_rate if own is None else own,
        correction=None
        if fitted is None
        else CorrectionOut(
            intercept=fitted.correction.intercept,
            slope=fitted.correction.slope,
            encoder=fitted.encoder,
            verdicts=VerdictCounts(duplicate=fitted.duplicate, distinct=fitted.distinct),
            fitted_at=fitted.fitted_at,
            applies=outdated_by is None,
            outdated_by=outdated_by,
        ),
        cut_offs=CutOffsOut.of(cut_offs),
    )

"""A collection's own correction of the calibration, over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.api.schemas import CutOffsOut, In
from app.domain.cut_offs import Correction


class VerdictCounts(In):
    """How many verdicts of each kind a correction was fitted on."""

    duplicate: int = Field(0, ge=0, strict=True)
    distinct: int = Field(0, ge=0, strict=True)


class CorrectionIn(In):
    """`log odds' = intercept + slope * log odds`, applied after the shift to the base rate."""

    intercept: Annotated[float, Field(ge=-20, le=20, allow_inf_nan=False, strict=True)]
    slope: Annotated[float, Field(ge=0.05, le=20, allow_inf_nan=False, strict=True)]
    encoder: str = Field(
        max_length=64,
        description="The fingerprint of the encoder it was fitted for, as `/v1/info` gives it.",
    )
    verdicts: VerdictCounts = Field(
        default_factory=VerdictCounts, description="What it was fitted on."
    )

    def to_correction(self) -> Correction:
        """Return the domain's correction."""
        return Correction(self.intercept, self.slope)


class CorrectionOut(BaseModel):
    """A stored correction.

    It applies only while the encoder that it was fitted for is in use, and under the base rate
    that it came after.
    """

    intercept: float
    slope: float
    encoder: str
    verdicts: VerdictCounts
    fitted_at: datetime
    applies: bool
    outdated_by: Literal["encoder", "base_rate"] | None = Field(
        description="What has changed since it was fitted, where it does not apply: fit it again."
    )


class CollectionCalibrationOut(BaseModel):
    """What a collection judges by."""

    base_rate: float = Field(description="Of the collection's settings, or else the encoder's.")
    correction: CorrectionOut | None
    cut_offs: CutOffsOut = Field(description="The cut-offs in force.")

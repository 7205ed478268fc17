"""What a report says, as a stable JSON document; docs/report.schema.json is its schema.

It holds no name or identifier of the patient, and no number that is not finite: what is undefined is null.

Numbers are rounded here and nowhere else: doses to 0.01 Gy, volumes to 0.01 cc, percentages to 0.1, indices to 0.001.
JSON, CSV, HTML and PDF show these digits, all of them. Differences, margins of goals and verdicts are made of the
rounded figures, so that a reader who subtracts what is printed gets what is printed.
"""

import math
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from model.case.case import PrescriptionSource
from model.dosimetry import CONFORMITY_DEFINITION, HOMOGENEITY_DEFINITION

PREDICTED = "Predicted dose. Not for treatment decisions."
COMPUTED = "Computed by DiffDP from an RTDOSE. Not for treatment decisions."

SIMULATED = (
    "The model was trained on simulated patients and has never seen a real one. Its dose shows how the system works, "
    "and nothing about what a clinic would plan."
)

DEFINITIONS = (
    (
        "Dx% is the least dose in the hottest x % of a structure's volume: the (100 - x)th percentile of its voxels' "
        "doses. D0.1cc and D2cc likewise by absolute volume; structures smaller than that have none."
    ),
    (
        "VxGy is the share of a structure's volume that receives at least x Gy; V95% and V107% refer to the target's "
        "own prescribed dose."
    ),
    HOMOGENEITY_DEFINITION,
    CONFORMITY_DEFINITION,
    (
        "Contours reach halfway to those of the neighbouring planes. A structure consists of the voxels whose centres "
        "lie inside; if they are fewer than 50 000, of parts of voxels: each is divided evenly until there are about "
        "as many parts, and the dose at their centres is interpolated linearly between voxels inside the External. CI "
        "counts whole voxels."
    ),
    "Dmin and Dmax are the least and greatest dose of a voxel or part.",
    (
        "All figures are computed from the dose as it is written in the RTDOSE, interpolated to the CT's voxels. Doses "
        "are rounded to 0.01 Gy, volumes to 0.01 cc, percentages to 0.1, indices to 0.001; differences and verdicts "
        "follow from the rounded figures."
    ),
)

SPREAD_DEFINITION = (
    "The spread is the standard deviation between the model's samples. The band of a DVH is where it would lie if "
    "every voxel had one spread less or more. It says how sure the model is of itself, and is no bound of its error."
)

CALIBRATED_SPREAD_DEFINITION = (
    "The spread is the standard deviation of the predicted dose's error as the model expects it: that between its "
    "samples, averaged over the neighbourhood and scaled such that, for patients it had not learnt from, nine of ten "
    "voxels were within 1.64 spreads of the planned dose. It is no bound: one voxel in ten may be further off, and a "
    "patient unlike those patients more of them. The band of a DVH is where it would lie if every voxel had one "
    "spread less or more; errors of voxels partly cancel, so the DVH is surer than that."
)

LIMITS = (
    (
        "A network predicted this dose from CT, structures and prescription. No beam was calculated: a plan that gives "
        "this dose may not exist for any machine."
    ),
    (
        "It resembles the plans of the training data. For other techniques, prescriptions or anatomy it may be wrong "
        "without a sign of it."
    ),
    (
        "Tissues and structures that the model does not know have no influence: implants, couch, and organs not listed "
        "here."
    ),
)

GY, PERCENT, CC, INDEX = 2, 1, 2, 3
"""Decimals."""


def _rounded_to(decimals: int) -> Callable[[float | None], float | None]:
    def rounded(value: float | None) -> float | None:
        # Zero without a sign
        return round(float(value), decimals) + 0.0 if value is not None and math.isfinite(value) else None

    return rounded


def _number(decimals: int, unit: str) -> object:
    return Field(json_schema_extra={"decimals": decimals, "unit": unit})


Gy = Annotated[float | None, BeforeValidator(_rounded_to(GY)), _number(GY, "Gy")]
Percent = Annotated[float | None, BeforeValidator(_rounded_to(PERCENT)), _number(PERCENT, "%")]
Cc = Annotated[float | None, BeforeValidator(_rounded_to(CC)), _number(CC, "cc")]
Index = Annotated[float | None, BeforeValidator(_rounded_to(INDEX)), _number(INDEX, "")]
CurvePercent = Annotated[float, BeforeValidator(_rounded_to(2)), _number(2, "%")]
CurveGy = Annotated[float, BeforeValidator(_rounded_to(GY)), _number(GY, "Gy")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSummary(_Part):
    """What predicted the dose, what it learnt from, and how well it did."""

    name: str
    version: str
    description: str
    site: str
    licence: str
    weights_sha256: str
    training_data: str
    training_patients: int
    simulated_training_data: bool = Field(description="Whether the model was trained on simulated patients.")
    figures_of_merit: dict[str, float | str] = Field(
        description="Of the validation patients, as the manifest has them."
    )
    limits: tuple[str, ...] = LIMITS


class PredictionSummary(_Part):
    """How the dose was predicted."""

    model: ModelSummary
    sampler: str
    steps: int = Field(description="Sampling steps.")
    samples: int = Field(description="Samples whose mean is the predicted dose.")
    seed: int
    device: str
    duration_s: float | None


class StudySummary(_Part):
    """Which objects the report is about: UIDs say so to those who have them, and nothing to others."""

    study_instance_uid: str
    structure_set_uid: str
    plan_uid: str | None
    dose_uid: str
    reference_dose_uid: str | None = None
    ct_voxels: tuple[int, int, int] = Field(description="Slices, rows, columns.")
    ct_spacing_mm: tuple[float, float, float]


class ReportMetadata(_Part):
    """Where a report comes from."""

    job_id: str | None = Field(description="Null if no job of a server predicted the dose.")
    created_at: datetime
    software_version: str
    study: StudySummary
    predicted: bool = Field(description="Whether the dose was predicted, as far as the RTDOSE says.")
    simulated_training_data: bool = Field(False, description="Whether it was predicted from simulated patients.")
    prediction: PredictionSummary | None = None
    missing_structures: tuple[str, ...] = Field((), description="Organs that the model knows and the study lacks.")
    unused_rois: tuple[str, ...] = Field((), description="ROIs of the study that nothing was done with.")
    warnings: tuple[str, ...] = ()


class PrescriptionSummary(_Part):
    """Prescribed dose of each target over all fractions."""

    dose_gy: dict[str, float]
    fractions: int | None
    source: PrescriptionSource


class Normalisation(_Part):
    """The dose that is 100 % in pictures and for gamma."""

    dose_gy: Gy
    meaning: Literal["highest prescribed dose", "greatest dose"]


class HottestPoint(_Part):
    """Where in the patient the dose is greatest."""

    position_mm: tuple[float, float, float] = Field(description="x, y, z in the patient's LPS axes.")
    dose_gy: Gy


class DvhCurve(_Part):
    """Cumulative DVH, sampled at equal steps from 0 Gy."""

    dose_gy: tuple[CurveGy, ...]
    volume_percent: tuple[CurvePercent, ...]


class DvhBand(_Part):
    """Where the DVH would lie if every voxel had one standard deviation between samples less or more."""

    dose_gy: tuple[CurveGy, ...]
    lower_percent: tuple[CurvePercent, ...]
    upper_percent: tuple[CurvePercent, ...]


class DoseMetrics(_Part):
    """Dose figures of a structure, or the differences of such."""

    min_gy: Gy
    d98_gy: Gy
    d95_gy: Gy
    d50_gy: Gy
    mean_gy: Gy
    d2_gy: Gy
    max_gy: Gy
    d0_1cc_gy: Gy
    d2cc_gy: Gy
    v95_percent: Percent = Field(description="Targets only, as are the following.")
    v107_percent: Percent
    homogeneity_index: Index
    conformity_index: Index
    volume_percent_at_gy: dict[str, Percent] = Field(
        description='VxGy in percent; keys are doses in Gy, "20" or "59.4".'
    )


class StructureDose(_Part):
    """A dose as one structure sees it."""

    metrics: DoseMetrics
    dvh: DvhCurve


class StructureReport(_Part):
    """One structure under the dose and, where there is one, under the reference."""

    number: int = Field(description="By which pictures name it.")
    name: str = Field(description="TG-263 name as used by the model, else the ROI's own.")
    roi_name: str = Field(description="Name as found in the study.")
    kind: Literal["target", "oar", "external"]
    roi_colour: str | None = Field(description="ROI Display Color (3006,002A) as #rrggbb.")
    volume_cc: Cc
    prescription_gy: Gy
    dose: StructureDose | None = Field(description="Null if the structure has no volume.")
    reference: StructureDose | None
    difference: DoseMetrics | None = Field(description="Dose minus reference.")
    band: DvhBand | None
    mean_spread_gy: Gy = Field(description="Mean of the voxels' spread, which `definitions` explains.")


class GoalResult(_Part):
    """A clinical goal and whether it is met."""

    structure: str
    metric: str
    at_most: bool = Field(description="Whether the value must not exceed the limit; else it must reach it.")
    limit: float
    unit: Literal["Gy", "%"]
    value: float | None = Field(description="Null if the study lacks the structure or it is too small.")
    reference_value: float | None = Field(description="Of the reference, if there is one.")
    margin: float | None = Field(
        description="How far the value is on the right side of the limit; negative: missed by."
    )
    met: bool | None
    meaning: str
    source: str


class Goals(_Part):
    """Clinical goals of the site."""

    site: str
    results: tuple[GoalResult, ...]
    sources: dict[str, str]


class GammaSummary(_Part):
    """Gamma index (Low 1998) of the dose against the reference, with its criteria."""

    dose_percent: float
    distance_mm: float
    normalisation_gy: Gy = Field(description="Global gamma: the dose of which the percentages are taken.")
    cutoff_percent: float = Field(description="Lower reference doses are not judged.")
    judged_voxels: int
    every_nth: int = Field(description="Along each axis every so many-th voxel was judged.")
    passing_percent: Percent


class Comparison(_Part):
    """The dose against the reference, within the External."""

    reference: str = Field(description="What the reference is.")
    mean_absolute_difference_gy: Gy
    gamma: GammaSummary


class Report(_Part):
    """Report of a dose."""

    report_version: Literal["2.0"] = "2.0"
    disclaimer: str
    metadata: ReportMetadata
    prescription: PrescriptionSummary | None
    normalisation: Normalisation
    hottest_point: HottestPoint
    structures: tuple[StructureReport, ...] = Field(description="Targets, organs at risk, then the External.")
    goals: Goals | None
    comparison: Comparison | None
    definitions: tuple[str, ...]

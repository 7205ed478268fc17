"""What a report says, as a stable JSON document.

It holds no name or identifier of the patient, and no number that is not finite: what is undefined is null.
"""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from model.case import Case, Structure
from model.case.case import PrescriptionSource
from model.dosimetry import CONFORMITY_DEFINITION, HOMOGENEITY_DEFINITION, Dvh, conformity_index, dvh, homogeneity_index

DISCLAIMER: Literal["Predicted dose. Not for treatment decisions."] = "Predicted dose. Not for treatment decisions."

DVH_POINTS = 200
"""Most points of a curve in the report: 0.5 Gy apart for a plan of 70 Gy, finer than a printed line."""

DVH_STEPS_GY = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)

DOSE_LEVELS_GY = (5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0)
"""Doses at which every structure's volume is given, besides the prescribed ones."""

DEFINITIONS = (
    (
        "Dx% is the least dose in the hottest x % of a structure's volume: the (100 - x)th percentile of its voxel "
        "doses. D0.1cc and D2cc likewise by absolute volume; structures smaller than that have none."
    ),
    (
        "VxGy is the share of a structure's volume that receives at least x Gy; V95% and V107% refer to the target's "
        "own prescribed dose."
    ),
    HOMOGENEITY_DEFINITION,
    CONFORMITY_DEFINITION,
    "Dmin and Dmax are the least and greatest voxel dose. A voxel belongs to a structure if its centre does.",
)


def _rounded(value: float) -> float:
    """Round to what a dose can mean."""
    return round(float(value), 4)


def _finite(value: float | None) -> float | None:
    """Round; None for what is not finite."""
    return _rounded(value) if value is not None and math.isfinite(value) else None


Rounded = Annotated[float, BeforeValidator(_rounded)]
Number = Annotated[float | None, BeforeValidator(_finite)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReportMetadata(_Part):
    """Where a prediction comes from."""

    job_id: str
    created_at: datetime
    model_name: str
    model_version: str
    weights_sha256: str
    sampler: str
    steps: int = Field(description="Sampling steps.")
    samples: int = Field(description="Samples whose mean is the predicted dose.")
    seed: int
    device: str
    duration_s: Number
    software_version: str
    simulated_training_data: bool = Field(description="Whether the model was trained on simulated patients.")
    warnings: tuple[str, ...] = ()


class PrescriptionSummary(_Part):
    """Prescribed dose of each target over all fractions."""

    dose_gy: dict[str, float]
    fractions: int | None
    source: PrescriptionSource


class DvhCurve(_Part):
    """Cumulative DVH, sampled at equal steps from 0 Gy."""

    dose_gy: tuple[Rounded, ...]
    volume_percent: tuple[Rounded, ...]


class DoseMetrics(_Part):
    """Dose figures of a structure, or the differences of such."""

    min_gy: Number
    d98_gy: Number
    d95_gy: Number
    d50_gy: Number
    mean_gy: Number
    d2_gy: Number
    max_gy: Number
    d0_1cc_gy: Number
    d2cc_gy: Number
    v95_percent: Number = Field(description="Targets only, as are the following.")
    v107_percent: Number
    homogeneity_index: Number
    conformity_index: Number
    volume_percent_at_gy: dict[str, Number] = Field(
        description='VxGy in percent; keys are doses in Gy, "20" or "59.4".'
    )


class StructureDose(_Part):
    """A dose as one structure sees it."""

    metrics: DoseMetrics
    dvh: DvhCurve


class StructureReport(_Part):
    """One structure under the predicted dose and, where there is one, under the reference."""

    name: str = Field(description="Name as used by the model.")
    roi_name: str = Field(description="Name as found in the study.")
    kind: Literal["target", "oar", "external"]
    volume_cc: Number
    prescription_gy: Number
    predicted: StructureDose | None = Field(description="Null if the structure holds no voxel centre.")
    reference: StructureDose | None
    difference: DoseMetrics | None = Field(description="Predicted minus reference.")
    mean_spread_gy: Number = Field(description="Mean of the voxels' standard deviation between samples.")


class Report(_Part):
    """Report of a predicted dose."""

    report_version: Literal["1.0"] = "1.0"
    disclaimer: Literal["Predicted dose. Not for treatment decisions."] = DISCLAIMER
    metadata: ReportMetadata
    prescription: PrescriptionSummary
    structures: tuple[StructureReport, ...] = Field(description="Targets, organs at risk, then the External.")
    mean_absolute_difference_gy: Number = Field(description="Predicted against reference, within the External.")
    definitions: tuple[str, ...] = DEFINITIONS


def build_report(
    case: Case,
    dose_gy: NDArray[np.floating],
    *,
    metadata: ReportMetadata,
    reference_gy: NDArray[np.floating] | None = None,
    spread_gy: NDArray[np.floating] | None = None,
) -> Report:
    """Evaluate a predicted dose on the structures of its case.

    Parameters
    ----------
    case
        Structures, prescription and grid; its own reference dose is not looked at.
    dose_gy
        (slices, rows, columns) predicted dose in Gy on the case's grid.
    metadata
        Where the prediction comes from.
    reference_gy
        (slices, rows, columns) dose to compare with, in Gy.
    spread_gy
        (slices, rows, columns) standard deviation between samples, in Gy.

    Raises
    ------
    ValueError
        If a dose does not fit the grid or is not finite within a structure.
    """
    doses = [dose_gy] if reference_gy is None else [dose_gy, reference_gy]
    step_gy = _curve_step_gy(max(float(dose[case.external].max(initial=0.0)) for dose in doses))
    ordered = sorted(case.structures.values(), key=_order(case))
    prescribed_gy = case.target_map_gy()
    structures = []
    for structure in ordered:
        predicted, *others = [_structure_dose(case, structure, dose, prescribed_gy, step_gy) for dose in doses]
        reference = others[0] if others else None
        mean_spread_gy = spread_gy[structure.mask].mean() if spread_gy is not None and predicted else None
        structures.append(
            StructureReport(
                name=structure.name,
                roi_name=structure.roi_name,
                kind=structure.kind,
                volume_cc=np.count_nonzero(structure.mask) * case.grid.voxel_volume_cc,
                prescription_gy=case.prescription.dose_gy.get(structure.name),
                predicted=predicted,
                reference=reference,
                difference=_difference(predicted.metrics, reference.metrics) if predicted and reference else None,
                mean_spread_gy=mean_spread_gy,
            )
        )
    empty = tuple(
        f"{s.name} holds no voxel centre of the grid, so it has no DVH." for s in structures if not s.predicted
    )
    return Report(
        metadata=metadata.model_copy(update={"warnings": metadata.warnings + empty}),
        prescription=PrescriptionSummary(
            dose_gy=dict(case.prescription.dose_gy),
            fractions=case.prescription.fractions,
            source=case.prescription.source,
        ),
        structures=tuple(structures),
        mean_absolute_difference_gy=(
            None if reference_gy is None else np.abs(dose_gy - reference_gy)[case.external].mean(dtype=np.float64)
        ),
    )


def _order(case: Case) -> Callable[[Structure], tuple[int, float, str]]:
    """Sort key: targets by falling prescription, organs at risk by name, the External."""
    ranks = ("target", "oar", "external")
    prescribed = case.prescription.dose_gy
    return lambda structure: (ranks.index(structure.kind), -prescribed.get(structure.name, 0.0), structure.name)


def _curve_step_gy(highest_gy: float) -> float:
    """Finest step that keeps curves up to the highest dose within `DVH_POINTS`."""
    return next((step for step in DVH_STEPS_GY if highest_gy / step + 2 <= DVH_POINTS), DVH_STEPS_GY[-1])


def _structure_dose(
    case: Case,
    structure: Structure,
    dose_gy: NDArray[np.floating],
    prescribed_gy: NDArray[np.floating],
    step_gy: float,
) -> StructureDose | None:
    """Evaluate one dose on one structure; None if the structure is empty."""
    if not structure.mask.any():
        return None
    histogram = dvh(dose_gy, structure.mask, case.grid.voxel_volume_cc)
    curve_gy, curve_percent = histogram.curve(step_gy)
    levels_gy = sorted({*DOSE_LEVELS_GY, *case.prescription.dose_gy.values()})
    metrics = DoseMetrics(
        min_gy=histogram.min_gy,
        d98_gy=histogram.dose_at_volume_percent(98.0),
        d95_gy=histogram.dose_at_volume_percent(95.0),
        d50_gy=histogram.dose_at_volume_percent(50.0),
        mean_gy=histogram.mean_gy,
        d2_gy=histogram.dose_at_volume_percent(2.0),
        max_gy=histogram.max_gy,
        d0_1cc_gy=histogram.dose_at_volume_cc(0.1) if histogram.volume_cc >= 0.1 else None,
        d2cc_gy=histogram.dose_at_volume_cc(2.0) if histogram.volume_cc >= 2.0 else None,
        **_target_metrics(case, structure, dose_gy, prescribed_gy, histogram),
        volume_percent_at_gy={f"{level:g}": histogram.volume_percent_at(level) for level in levels_gy},
    )
    return StructureDose(metrics=metrics, dvh=DvhCurve(dose_gy=tuple(curve_gy), volume_percent=tuple(curve_percent)))


def _target_metrics(
    case: Case,
    structure: Structure,
    dose_gy: NDArray[np.floating],
    prescribed_gy: NDArray[np.floating],
    histogram: Dvh,
) -> dict[str, float | None]:
    """Figures that only targets have; those that need a prescription are None without one."""
    figures: dict[str, float | None] = dict.fromkeys(
        ("v95_percent", "v107_percent", "homogeneity_index", "conformity_index")
    )
    if structure.kind != "target":
        return figures
    figures["homogeneity_index"] = homogeneity_index(histogram)
    level_gy = case.prescription.dose_gy.get(structure.name)
    if level_gy is not None:
        figures["v95_percent"] = histogram.volume_percent_at(0.95 * level_gy)
        figures["v107_percent"] = histogram.volume_percent_at(1.07 * level_gy)
        targets = prescribed_gy >= np.float32(level_gy)
        figures["conformity_index"] = conformity_index(dose_gy, targets, case.external, level_gy)
    return figures


def _difference(predicted: DoseMetrics, reference: DoseMetrics) -> DoseMetrics:
    """Predicted minus reference, figure by figure."""

    def subtract(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
        differences: dict[str, Any] = {}
        for name, value in ours.items():
            other = theirs[name]
            if isinstance(value, dict):
                differences[name] = subtract(value, other)
            else:
                differences[name] = None if value is None or other is None else value - other
        return differences

    return DoseMetrics.model_validate(subtract(predicted.model_dump(), reference.model_dump()))

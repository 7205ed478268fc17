"""Doses and a subject → a report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.case import EXTERNAL, Structure
from model.dosimetry import Dvh, conformity_index, homogeneity_index, interpolate
from model.dosimetry.goals import GoalSet, judge
from service.reports.content import (
    CALIBRATED_SPREAD_DEFINITION,
    COMPUTED,
    DEFINITIONS,
    GY,
    PERCENT,
    PREDICTED,
    SPREAD_DEFINITION,
    Comparison,
    DoseMetrics,
    DvhBand,
    DvhCurve,
    GoalResult,
    Goals,
    HottestPoint,
    Normalisation,
    PrescriptionSummary,
    Report,
    ReportMetadata,
    StructureDose,
    StructureReport,
)
from service.reports.subject import Doses, GammaMap, Subject

DVH_POINTS = 200
"""Most points of a curve in the report: 0.5 Gy apart for a plan of 70 Gy, finer than a printed line."""

DVH_STEPS_GY = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)

DOSE_LEVELS_GY = (5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0)
"""Doses at which every structure's volume is given, besides the prescribed ones."""

LOW_GY = 35.0
"""Highest dose below which these levels are too coarse, and every second, fifth, … Gy is taken instead."""

LOW_STEPS_GY = (0.5, 1.0, 2.0, 5.0)
MOST_LOW_LEVELS = 8


def build_report(
    subject: Subject,
    doses: Doses,
    metadata: ReportMetadata,
    *,
    goals: GoalSet | None = None,
    gamma: GammaMap | None = None,
) -> Report:
    """Evaluate a dose on the structures of a subject.

    Parameters
    ----------
    subject, doses
        Whom, and what.
    metadata
        Where both come from.
    goals
        Clinical goals of the subject's site.
    gamma
        Of the dose against the reference, if there is one.

    Raises
    ------
    ValueError
        If a dose does not fit the grid or is not finite within a structure.
    """
    arrays = [doses.dose_gy] if doses.reference_gy is None else [doses.dose_gy, doses.reference_gy]
    histograms = [subject.histograms(dose_gy) for dose_gy in arrays]
    spread = doses.spread_gy
    widened = [
        subject.histograms(np.maximum(doses.dose_gy + sign * spread, 0.0)) for sign in (-1, 1) if spread is not None
    ]
    highest_gy = max((dvhs[EXTERNAL].max_gy for dvhs in histograms + widened if EXTERNAL in dvhs), default=0.0)
    step_gy = _curve_step_gy(highest_gy)
    prescribed_map_gy = _prescribed_map_gy(subject)
    levels_gy = sorted({*_dose_levels_gy(highest_gy), *subject.prescribed_gy.values()})
    structures = []
    for number, structure in enumerate(sorted(subject.structures.values(), key=_order(subject)), start=1):
        name = structure.name
        evaluated = [
            _structure_dose(subject, structure, dose_gy, dvhs[name], prescribed_map_gy, step_gy, levels_gy)
            for dose_gy, dvhs in zip(arrays, histograms, strict=True)
            if name in dvhs
        ]
        dose = evaluated[0] if evaluated else None
        reference = evaluated[1] if len(evaluated) > 1 else None
        colour = subject.roi_colours.get(structure.roi_number or -1)
        structures.append(
            StructureReport(
                number=number,
                name=name,
                roi_name=structure.roi_name,
                kind=structure.kind,
                roi_colour="#{:02x}{:02x}{:02x}".format(*colour) if colour else None,
                volume_cc=histograms[0][name].volume_cc if dose else 0.0,
                prescription_gy=subject.prescribed_gy.get(name),
                dose=dose,
                reference=reference,
                difference=_difference(dose.metrics, reference.metrics) if dose and reference else None,
                band=_band(widened[0][name], widened[1][name], step_gy) if dose and widened else None,
                mean_spread_gy=_mean(spread, subject, structure) if dose and spread is not None else None,
            )
        )
    prescription = subject.prescription
    return Report(
        disclaimer=PREDICTED if metadata.predicted else COMPUTED,
        metadata=metadata.model_copy(update={"warnings": metadata.warnings + _unseen(subject, histograms[0])}),
        prescription=PrescriptionSummary(
            dose_gy=dict(prescription.dose_gy), fractions=prescription.fractions, source=prescription.source
        )
        if prescription
        else None,
        normalisation=normalisation(subject, doses.dose_gy),
        hottest_point=_hottest_point(subject, doses.dose_gy),
        structures=tuple(structures),
        goals=_goals(goals, histograms, subject) if goals else None,
        comparison=_comparison(subject, doses, gamma) if gamma else None,
        definitions=DEFINITIONS
        if spread is None
        else (*DEFINITIONS, CALIBRATED_SPREAD_DEFINITION if doses.spread_is_calibrated else SPREAD_DEFINITION),
    )


def normalisation(subject: Subject, dose_gy: NDArray[np.floating]) -> Normalisation:
    """Return the dose that is 100 %."""
    if subject.prescription:
        return Normalisation(dose_gy=subject.prescription.highest_gy, meaning="highest prescribed dose")
    return Normalisation(dose_gy=float(dose_gy[subject.external].max(initial=0.0)), meaning="greatest dose")


def hottest_voxel(subject: Subject, dose_gy: NDArray[np.floating]) -> tuple[int, int, int]:
    """Index (slice, row, column) of the greatest dose inside the patient."""
    inside = np.where(subject.external, dose_gy, -np.inf)
    z, y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(z), int(y), int(x)


def _hottest_point(subject: Subject, dose_gy: NDArray[np.floating]) -> HottestPoint:
    index = hottest_voxel(subject, dose_gy)
    x, y, z = (round(position, 1) + 0.0 for position in subject.grid.points_mm(np.array(index)).tolist())
    return HottestPoint(position_mm=(x, y, z), dose_gy=float(dose_gy[index]))


def _order(subject: Subject) -> Callable[[Structure], tuple[int, float, str]]:
    """Sort key: targets by falling prescription, organs at risk by name, the External."""
    ranks = ("target", "oar", "external")
    prescribed = subject.prescribed_gy
    return lambda structure: (ranks.index(structure.kind), -prescribed.get(structure.name, 0.0), structure.name)


def _unseen(subject: Subject, histograms: Mapping[str, Dvh]) -> tuple[str, ...]:
    """Warn of structures without a voxel."""
    return tuple(
        f"{structure.name} holds no voxel centre of the CT"
        + (": its DVH is interpolated." if structure.name in histograms else ", and has no DVH.")
        for structure in sorted(subject.structures.values(), key=_order(subject))
        if not structure.mask.any()
    )


def _curve_step_gy(highest_gy: float) -> float:
    """Finest step that keeps curves up to the highest dose within `DVH_POINTS`."""
    return next((step for step in DVH_STEPS_GY if highest_gy / step + 2 <= DVH_POINTS), DVH_STEPS_GY[-1])


def _dose_levels_gy(highest_gy: float) -> tuple[float, ...]:
    """Doses that suit a plan of a highest dose."""
    if highest_gy >= LOW_GY:
        return DOSE_LEVELS_GY
    step = next((step for step in LOW_STEPS_GY if highest_gy / step < MOST_LOW_LEVELS), LOW_STEPS_GY[-1])
    return tuple(step * k for k in range(1, max(1, int(highest_gy / step)) + 1))


def _prescribed_map_gy(subject: Subject) -> NDArray[np.float32]:
    """(slices, rows, columns) prescribed dose; where targets overlap the higher prescription holds."""
    prescribed = np.zeros(subject.grid.shape, np.float32)
    for name, dose_gy in subject.prescribed_gy.items():
        np.maximum(prescribed, np.float32(dose_gy) * subject.structures[name].mask, out=prescribed)
    return prescribed


def _structure_dose(
    subject: Subject,
    structure: Structure,
    dose_gy: NDArray[np.floating],
    histogram: Dvh,
    prescribed_map_gy: NDArray[np.floating],
    step_gy: float,
    levels_gy: Sequence[float],
) -> StructureDose:
    """Evaluate one dose on one structure."""
    curve_gy, curve_percent = histogram.curve(step_gy)
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
        **_target_metrics(subject, structure, dose_gy, prescribed_map_gy, histogram),
        volume_percent_at_gy={f"{level:g}": histogram.volume_percent_at(level) for level in levels_gy},
    )
    return StructureDose(metrics=metrics, dvh=DvhCurve(dose_gy=tuple(curve_gy), volume_percent=tuple(curve_percent)))


def _target_metrics(
    subject: Subject,
    structure: Structure,
    dose_gy: NDArray[np.floating],
    prescribed_map_gy: NDArray[np.floating],
    histogram: Dvh,
) -> dict[str, float | None]:
    """Figures that only targets have; those that need a prescription are None without one."""
    figures: dict[str, float | None] = dict.fromkeys(
        ("v95_percent", "v107_percent", "homogeneity_index", "conformity_index")
    )
    if structure.kind != "target":
        return figures
    figures["homogeneity_index"] = homogeneity_index(histogram)
    level_gy = subject.prescribed_gy.get(structure.name)
    if level_gy is not None:
        figures["v95_percent"] = histogram.volume_percent_at(0.95 * level_gy)
        figures["v107_percent"] = histogram.volume_percent_at(1.07 * level_gy)
        targets = prescribed_map_gy >= np.float32(level_gy)
        if targets.any():
            figures["conformity_index"] = conformity_index(dose_gy, targets, subject.external, level_gy)
    return figures


def _difference(dose: DoseMetrics, reference: DoseMetrics) -> DoseMetrics:
    """Dose minus reference, figure by figure, of the rounded figures."""

    def subtract(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
        differences: dict[str, Any] = {}
        for name, value in ours.items():
            other = theirs[name]
            if isinstance(value, dict):
                differences[name] = subtract(value, other)
            else:
                differences[name] = None if value is None or other is None else value - other
        return differences

    return DoseMetrics.model_validate(subtract(dose.model_dump(), reference.model_dump()))


def _band(lower: Dvh, upper: Dvh, step_gy: float) -> DvhBand:
    """Pair two DVHs, whose curves may end at different doses."""
    dose_gy, upper_percent = upper.curve(step_gy)
    lower_percent = np.zeros(len(dose_gy))
    lower_curve = lower.curve(step_gy)[1][: len(dose_gy)]
    lower_percent[: len(lower_curve)] = lower_curve
    return DvhBand(dose_gy=tuple(dose_gy), lower_percent=tuple(lower_percent), upper_percent=tuple(upper_percent))


def _mean(values: NDArray[np.floating], subject: Subject, structure: Structure) -> float:
    """Mean of voxels' values over a structure."""
    if structure.name in subject.points:
        return float(interpolate(values, subject.points[structure.name], subject.external).mean())
    return float(values[structure.mask].mean(dtype=np.float64))


def _goals(goals: GoalSet, histograms: list[dict[str, Dvh]], subject: Subject) -> Goals:
    """Judge goals by what is shown: the rounded value against the limit."""
    judged = [judge(goals, dvhs, subject.prescription) for dvhs in histograms]
    references: list[float | None] = [j.value for j in judged[1]] if len(judged) > 1 else [None] * len(judged[0])
    results = []
    for item, reference in zip(judged[0], references, strict=True):
        goal = item.goal
        decimals = GY if goal.unit == "Gy" else PERCENT
        limit = round(item.limit, decimals)
        value = None if item.value is None else round(item.value, decimals) + 0.0
        margin = None
        if value is not None:
            margin = round(limit - value if goal.at_most else value - limit, decimals) + 0.0
        results.append(
            GoalResult(
                structure=item.structure,
                metric=goal.metric,
                at_most=goal.at_most is not None,
                limit=limit,
                unit=goal.unit,
                value=value,
                reference_value=None if reference is None else round(reference, decimals) + 0.0,
                margin=margin,
                met=None if margin is None else margin >= 0,
                meaning=goal.meaning,
                source=goal.source,
            )
        )
    cited = {result.source for result in results}
    return Goals(
        site=goals.site,
        results=tuple(results),
        sources={name: text for name, text in goals.sources.items() if name in cited},
    )


def _comparison(subject: Subject, doses: Doses, gamma: GammaMap) -> Comparison | None:
    if doses.reference_gy is None:
        return None
    differences = np.abs(doses.dose_gy - doses.reference_gy)[subject.external]
    return Comparison(
        reference=doses.reference_name,
        mean_absolute_difference_gy=float(differences.mean(dtype=np.float64)),
        gamma=gamma.summary,
    )

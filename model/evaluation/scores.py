"""How well a checkpoint predicts the doses of patients: every figure of merit, and the time it takes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.case import Case
from model.conditioning.framing import Framing
from model.dosimetry.gamma import gamma, passing_rate
from model.dosimetry.openkbp import PatientErrors, openkbp_scores, patient_errors
from model.dosimetry.sharpness import sharpness
from model.evaluation.calibration import Calibration, calibration
from model.evaluation.spread import spread_coverage
from model.evaluation.statistics import summary
from model.evaluation.target_differences import TargetDifferences, target_differences
from model.prediction.predictor import Prediction, Predictor, SamplingOptions


@dataclass(frozen=True)
class PatientScore:
    """How one patient's prediction compares with the reference.

    Parameters
    ----------
    identifier
        Of the case.
    errors
        OpenKBP's.
    differences
        The paper's.
    sharpness, detail_correlation
        See `model.dosimetry.sharpness`.
    gamma_3_percent_3_mm, gamma_2_percent_2_mm
        Passing rates in percent: global, percent of the highest prescription, cut-off 10 % of it, linear interpolation
        in steps of a tenth of the distance, within the External. None if not asked for, NaN if no voxel is judged.
    calibration
        Of the samples within the External; None if there are fewer than two.
    spread_coverage
        Share of the External's voxels whose reference lies within 1.645 spreads of the dose; None without a spread.
    seconds, network_s
        That the prediction took, and the network's part of them.
    """

    identifier: str
    errors: PatientErrors
    differences: TargetDifferences
    sharpness: float
    detail_correlation: float
    gamma_3_percent_3_mm: float | None
    gamma_2_percent_2_mm: float | None
    calibration: Calibration | None
    spread_coverage: float | None
    seconds: float
    network_s: float


@dataclass(frozen=True)
class Metric:
    """A figure of merit of one patient.

    Parameters
    ----------
    key
        Its name in files; units are in it.
    title
        Its name in tables.
    value
        Takes it from a patient's score; None or NaN where there is none.
    better
        Which values are better: less, more, or those near one; None for what is recorded but not compared.
    decimals
        Worth telling.
    """

    key: str
    title: str
    value: Callable[[PatientScore], float | None]
    better: Literal["less", "more", "one"] | None
    decimals: int


METRICS = (
    Metric("openkbp_dose_score_gy", "Dose error (Gy)", lambda p: p.errors.dose_gy, "less", 3),
    Metric("openkbp_dvh_score_gy", "DVH error (Gy)", lambda p: openkbp_scores([p.errors]).dvh_gy, "less", 3),
    Metric("delta_hi", "ΔHI", lambda p: p.differences.hi, "less", 4),
    Metric("delta_d98", "ΔD98", lambda p: p.differences.d98, "less", 4),
    Metric("delta_d2", "ΔD2", lambda p: p.differences.d2, "less", 4),
    Metric("delta_dmax", "ΔDmax", lambda p: p.differences.d_max, "less", 4),
    Metric("delta_dmean", "ΔDmean", lambda p: p.differences.d_mean, "less", 4),
    Metric("gamma_3_percent_3_mm", "γ 3 %/3 mm (%)", lambda p: p.gamma_3_percent_3_mm, "more", 1),
    Metric("gamma_2_percent_2_mm", "γ 2 %/2 mm (%)", lambda p: p.gamma_2_percent_2_mm, "more", 1),
    Metric("sharpness", "Sharpness", lambda p: p.sharpness, "one", 3),
    Metric("detail_correlation", "Detail correlation", lambda p: p.detail_correlation, "more", 3),
    Metric(
        "coverage_over_expected",
        "Coverage/expected",
        lambda p: p.calibration and p.calibration.coverage / p.calibration.expected,
        "one",
        3,
    ),
    Metric(
        "spread_coverage_over_90",
        "Coverage of ± 1.64 spread / 0.9",
        lambda p: p.spread_coverage and p.spread_coverage / 0.9,
        "one",
        3,
    ),
    Metric("spread_coverage", "Coverage of ± 1.64 spread", lambda p: p.spread_coverage, None, 3),
    Metric("coverage_90", "Coverage", lambda p: p.calibration and p.calibration.coverage, None, 3),
    Metric("coverage_90_expected", "Expected coverage", lambda p: p.calibration and p.calibration.expected, None, 3),
    Metric("seconds_per_patient", "Time (s)", lambda p: p.seconds, None, 2),
    Metric("network_s", "Network (s)", lambda p: p.network_s, None, 2),
)
"""All figures of merit, and which values are better."""


@dataclass(frozen=True)
class Scores:
    """All patients' scores."""

    patients: tuple[PatientScore, ...]

    @property
    def dose_score_gy(self) -> float:
        """OpenKBP's dose score."""
        return openkbp_scores(p.errors for p in self.patients).dose_gy

    def values(self, metric: Metric) -> NDArray[np.float64]:
        """(patients,) of a figure of merit; NaN where a patient has none."""
        return np.array([metric.value(p) for p in self.patients], np.float64)  # None becomes NaN

    def figures(self) -> dict[str, float]:
        """Return the means over patients, rounded to what is worth telling, by `Metric.key`; none that no patient has.

        OpenKBP's DVH score alone is the mean over all (patient, structure, metric), as the challenge defines it.
        """
        figures: dict[str, float] = {"patients": len(self.patients)}
        for metric in METRICS:
            mean = summary(self.values(metric)).mean
            if not np.isnan(mean):
                figures[metric.key] = round(mean, metric.decimals)
        doses = [p.errors.dose_gy for p in self.patients]
        return figures | {
            "openkbp_dose_score_sd_gy": round(float(np.std(doses, ddof=1)), 3) if len(doses) > 1 else 0.0,
            "openkbp_dvh_score_gy": round(openkbp_scores(p.errors for p in self.patients).dvh_gy, 3),
        }


def evaluate(
    predictor: Predictor,
    cases: Iterable[Case],
    options: SamplingOptions,
    done: Callable[[Case, Prediction], object] = lambda *_: None,
    *,
    with_gamma: bool = True,
) -> Scores:
    """Predict and score patients.

    Parameters
    ----------
    done
        Called after each patient.
    with_gamma
        Whether to find the gamma passing rates, which takes a second or more per patient.

    Raises
    ------
    ValueError
        If a case has no reference dose.
    """
    patients = []
    for case in cases:
        if case.dose_gy is None:
            raise ValueError(f"case {case.identifier} has no reference dose")
        began = perf_counter()
        prediction = predictor.predict(case, options, keep_samples=options.samples > 1)
        patients.append(_score(predictor, case, prediction, perf_counter() - began, with_gamma=with_gamma))
        done(case, prediction)
    return Scores(tuple(patients))


def _score(
    predictor: Predictor, case: Case, prediction: Prediction, seconds: float, *, with_gamma: bool
) -> PatientScore:
    assert case.dose_gy is not None  # noqa: S101 - asked before
    masks = {kind: {s.name: s.mask for s in case.structures.values() if s.kind == kind} for kind in ("oar", "target")}
    errors = patient_errors(
        case.dose_gy,
        prediction.dose_gy,
        case.external,
        oars=masks["oar"],
        targets=masks["target"],
        voxel_volume_cc=case.grid.voxel_volume_cc,
    )
    # Sharpness is defined on the network's grid, so that a case's own voxel size does not count
    to_canonical = case.grid.to_canonical
    framing = Framing.of(to_canonical(case.external), case.grid.canonical(), predictor.manifest.grid)
    detail = sharpness(
        framing.dose_images(to_canonical(case.dose_gy)),
        framing.dose_images(to_canonical(prediction.dose_gy)),
        framing.images(to_canonical(case.external)) >= 0.5,
        framing.images(to_canonical(case.target_map_gy() > 0)) >= 0.5,
    )
    samples_gy = prediction.samples_gy
    calibrated = (
        None if samples_gy is None or len(samples_gy) < 2 else calibration(case.dose_gy, samples_gy, case.external)
    )
    passing = [
        passing_rate(
            gamma(
                case.dose_gy,
                prediction.dose_gy,
                case.grid.spacing_mm,
                dose_percent=percent,
                distance_mm=distance_mm,
                normalisation_gy=case.prescription.highest_gy,
                mask=case.external,
            )
        )
        if with_gamma
        else None
        for percent, distance_mm in ((3.0, 3.0), (2.0, 2.0))
    ]
    return PatientScore(
        identifier=case.identifier,
        errors=errors,
        differences=target_differences(case, prediction.dose_gy),
        sharpness=detail.variance_ratio,
        detail_correlation=detail.correlation,
        gamma_3_percent_3_mm=passing[0],
        gamma_2_percent_2_mm=passing[1],
        calibration=calibrated,
        spread_coverage=None
        if prediction.spread_gy is None
        else spread_coverage(case.dose_gy, prediction.dose_gy, prediction.spread_gy, case.external),
        seconds=seconds,
        network_s=prediction.network_s,
    )

"""OpenKBP's scores and sharpness of a checkpoint over patients, and the time it takes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from model.case import Case
from model.conditioning.framing import Framing
from model.dosimetry.openkbp import PatientErrors, openkbp_scores, patient_errors
from model.dosimetry.sharpness import sharpness
from model.prediction.predictor import Predictor, SamplingOptions


@dataclass(frozen=True)
class PatientScore:
    """One patient's errors, the sharpness of the predicted dose, and the seconds that its prediction took."""

    identifier: str
    errors: PatientErrors
    sharpness: float
    detail_correlation: float
    seconds: float
    network_s: float


@dataclass(frozen=True)
class Scores:
    """All patients' scores."""

    patients: tuple[PatientScore, ...]

    @property
    def dose_score_gy(self) -> float:
        """OpenKBP's dose score."""
        return openkbp_scores(p.errors for p in self.patients).dose_gy

    def figures(self) -> dict[str, float]:
        """Return the figures of merit, rounded to what is worth telling."""
        scores = openkbp_scores(p.errors for p in self.patients)
        doses = [p.errors.dose_gy for p in self.patients]
        return {
            "patients": len(self.patients),
            "openkbp_dose_score_gy": round(scores.dose_gy, 3),
            "openkbp_dose_score_sd_gy": round(float(np.std(doses, ddof=1)), 3) if len(doses) > 1 else 0.0,
            "openkbp_dvh_score_gy": round(scores.dvh_gy, 3),
            "sharpness": round(float(np.mean([p.sharpness for p in self.patients])), 3),
            "detail_correlation": round(float(np.mean([p.detail_correlation for p in self.patients])), 3),
            "seconds_per_patient": round(float(np.mean([p.seconds for p in self.patients])), 2),
        }


def evaluate(
    predictor: Predictor,
    cases: Iterable[Case],
    options: SamplingOptions,
    done: Callable[[], object] = lambda: None,
) -> Scores:
    """Predict and score patients, calling `done` after each.

    Raises
    ------
    ValueError
        If a case has no reference dose.
    """
    patients = []
    for case in cases:
        patients.append(_score(predictor, case, options))
        done()
    return Scores(tuple(patients))


def _score(predictor: Predictor, case: Case, options: SamplingOptions) -> PatientScore:
    if case.dose_gy is None:
        raise ValueError(f"case {case.identifier} has no reference dose")
    began = perf_counter()
    prediction = predictor.predict(case, options)
    seconds = perf_counter() - began
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
    return PatientScore(
        case.identifier, errors, detail.variance_ratio, detail.correlation, seconds, prediction.network_s
    )

import numpy as np
import pytest

from model.dosimetry import PatientErrors, openkbp_scores, patient_errors


def line(values: list[float]) -> np.ndarray:
    return np.array(values, float)[None, None]


def test_patient_by_hand() -> None:
    reference = line([10, 20, 30, 40, 50, 60, 0, 5])
    predicted = line([11, 18, 30, 44, 50, 57, 0, 9])
    possible = line([1, 1, 1, 1, 1, 1, 1, 0]).astype(bool)
    oar = line([1, 1, 0, 0, 0, 0, 0, 0]).astype(bool)
    target = line([0, 0, 0, 1, 1, 1, 0, 0]).astype(bool)
    errors = patient_errors(
        reference,
        predicted,
        possible,
        oars={"Brainstem": oar, "Larynx": np.zeros_like(oar)},
        targets={"PTV70": target},
        # 0.1 cc is one voxel of 88.2 mm³, half of the organ: its percentile is the median.
        voxel_volume_cc=0.0882,
    )
    # The last voxel cannot receive dose: the prediction counts as 0 there, and the reference's 5 Gy as an error.
    assert errors.dose_gy == pytest.approx((1 + 2 + 0 + 4 + 0 + 3 + 0 + 5) / 7)
    assert errors.dvh_gy == pytest.approx(
        {
            ("Brainstem", "mean"): 0.5,
            ("Brainstem", "D_0.1cc"): abs(15 - 14.5),
            ("PTV70", "D_1"): abs(np.percentile([40, 50, 60], 99) - np.percentile([44, 50, 57], 99)),
            ("PTV70", "D_95"): abs(np.percentile([40, 50, 60], 5) - np.percentile([44, 50, 57], 5)),
            ("PTV70", "D_99"): abs(np.percentile([40, 50, 60], 1) - np.percentile([44, 50, 57], 1)),
        }
    )


def test_scores_average_over_patients_and_over_all_metrics() -> None:
    many = PatientErrors(2.0, {("A", "mean"): 1.0, ("A", "D_0.1cc"): 2.0, ("B", "mean"): 3.0})
    few = PatientErrors(4.0, {("A", "mean"): 6.0})
    scores = openkbp_scores(iter([many, few]))
    assert scores.dose_gy == 3.0
    assert scores.dvh_gy == 3.0

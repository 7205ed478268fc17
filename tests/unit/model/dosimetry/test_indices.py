import numpy as np
import pytest

from model.dosimetry import conformity_index, dvh, homogeneity_index


def test_homogeneity_index_by_hand() -> None:
    # 101 voxels of 50.0, 50.1 … 60.0 Gy: D2 = 59.8, D98 = 50.2, D50 = 55.0.
    doses = np.linspace(50, 60, 101)[None, None]
    target = dvh(doses, np.ones(doses.shape, bool), 1.0)
    assert homogeneity_index(target) == pytest.approx(9.6 / 55.0)


def test_homogeneity_index_of_a_cold_target_is_not_a_number() -> None:
    assert np.isnan(homogeneity_index(dvh(np.zeros((1, 1, 5)), np.ones((1, 1, 5), bool), 1.0)))


def test_conformity_index_by_hand() -> None:
    dose = np.zeros((1, 1, 100))
    dose[..., 10:60] = 70.0
    target = np.zeros(dose.shape, bool)
    target[..., 20:60] = True
    external = np.ones(dose.shape, bool)
    external[..., :15] = False
    # 40 voxels of target, all covered; 50 of isodose, 45 of them in the patient.
    assert conformity_index(dose, target, external, 70.0) == pytest.approx(40**2 / (40 * 45))
    assert conformity_index(dose, target, external, 70.1) == 0.0
    assert conformity_index(dose, dose > 0, external | True, 70.0) == 1.0
    with pytest.raises(ValueError, match="without voxels"):
        conformity_index(dose, np.zeros_like(target), external, 70.0)

from functools import cache

import numpy as np
import pytest

from model.cohort.neck import simulated_neck

SMALL = {"shape": (30, 40, 44), "spacing_mm": (8.0, 8.0, 10.0)}


@cache
def patient(seed):
    return simulated_neck(seed)


@pytest.fixture
def case():
    return patient(3)


def volume_cc(case, name):
    return case.structures[name].mask.sum() * case.grid.voxel_volume_cc


def centre_mm(case, name):
    return case.grid.points_mm(np.argwhere(case.structures[name].mask).mean(axis=0))


def test_the_seed_determines_every_bit():
    first, again, other = (simulated_neck(seed, **SMALL) for seed in (1, 1, 2))
    assert np.array_equal(first.hu, again.hu)
    assert all(np.array_equal(s.mask, again.structures[name].mask) for name, s in first.structures.items())
    assert first.beams == again.beams
    assert not np.array_equal(first.external, other.external)


@pytest.mark.parametrize(
    ("name", "least_cc", "most_cc"),
    [
        # From the 5th to the 95th percentile of the OpenKBP training cases, in which the outline may be cut off
        ("Brainstem", 9, 33),
        ("SpinalCord", 16, 39),
        ("Parotid_R", 13, 45),
        ("Parotid_L", 13, 45),
        ("Esophagus", 6, 19),
        ("Larynx", 15, 52),
        ("Bone_Mandible", 37, 82),
        ("PTV_7000", 106, 727),
        ("PTV_6300", 5, 364),
        ("PTV_5600", 78, 856),
        ("External", 2199, 10504),
    ],
)
@pytest.mark.parametrize("seed", [3, 11])
def test_volumes_are_those_of_real_patients(seed, name, least_cc, most_cc):
    assert least_cc < volume_cc(patient(seed), name) < most_cc


def test_structures_lie_where_they_belong(case):
    centre = {name: centre_mm(case, name) for name in case.structures}
    assert centre["Parotid_L"][0] > 35 > -35 > centre["Parotid_R"][0]
    assert centre["Brainstem"][2] > centre["Parotid_L"][2] > centre["Larynx"][2] > centre["Esophagus"][2]
    assert centre["Bone_Mandible"][1] < centre["Larynx"][1] < centre["SpinalCord"][1]
    widths = [np.ptp(np.argwhere(row.any(axis=0))) for row in case.external]
    assert max(widths[:15]) > 2 * max(widths[-15:])


def test_targets_lie_inside_the_patient_and_apart(case):
    targets = np.sum([case.structures[name].mask for name in case.prescription.dose_gy], axis=0)
    assert targets.max() == 1
    assert not (targets.astype(bool) & ~case.external).any()
    assert not (targets.astype(bool) & case.structures["SpinalCord"].mask).any()


def test_hounsfield_units_are_those_of_tissue(case):
    def median(mask):
        return np.median(case.hu[mask])

    assert -1024 <= median(~case.external) < -980
    assert 0 < median(case.structures["PTV_7000"].mask) < 80
    assert 400 < median(case.structures["Bone_Mandible"].mask) < 1200
    assert -60 < median(case.structures["Parotid_L"].mask) < 40
    assert 10 < median(case.structures["Brainstem"].mask) < 50
    assert case.structures["Larynx"].mask[case.hu < -700].any()


def test_nine_beams_meet_in_the_targets(case):
    assert [beam.gantry_deg for beam in case.beams] == [(float(angle),) for angle in range(0, 360, 40)]
    targets = np.logical_or.reduce([case.structures[name].mask for name in case.prescription.dose_gy])
    assert case.beams[0].isocentre_mm == pytest.approx(case.grid.points_mm(np.argwhere(targets)).mean(axis=0), abs=0.06)
    assert case.prescription.fractions == 35


def test_a_scan_that_misses_the_targets_is_refused():
    with pytest.raises(ValueError, match="target"):
        simulated_neck(1, shape=(2, 2, 2), spacing_mm=(1, 300, 300))

"""Dose of an arc against the beam's closed form in water, and its transpose."""

import numpy as np
import pytest
import torch

from model.cohort.arc import Aperture, ArcDose, Patient
from model.cohort.photons import depth_dose

Z_MM = np.arange(-60.0, 61.0, 6.0)
Y_MM = X_MM = np.arange(-120.0, 121.0, 4.0)
EDGES_MM = np.arange(-50.0, 51.0, 5.0)
FIELD = Aperture(EDGES_MM, EDGES_MM)
STEP_MM = 4.0


def box(low, high):
    """A box of water, from low to high along rows and columns."""
    density = np.zeros((len(Z_MM), len(Y_MM), len(X_MM)), np.float32)
    density[:, low : high + 1, low : high + 1] = 1
    return Patient(density, Z_MM, Y_MM, X_MM)


def dose_of(patient, gantry_deg, aperture=FIELD):
    arc = ArcDose(patient, [gantry_deg], aperture, STEP_MM)
    return patient.volume(arc.dose(torch.ones(1, *aperture.shape)))


WATER = box(5, 55)
SURFACE_MM = Y_MM[5] - 2  # the face of the first voxel
MIDDLE = (len(Z_MM) // 2, len(Y_MM) // 2, len(X_MM) // 2)


# Where the source stands, in steps of rows (to posterior) and columns (to the left) from the isocentre
@pytest.mark.parametrize(("gantry_deg", "row", "column"), [(0, -1, 0), (90, 0, 1), (180, 1, 0), (270, 0, -1)])
def test_depth_dose_on_the_central_axis_is_the_closed_form(gantry_deg, row, column):
    dose = dose_of(WATER, gantry_deg)
    steps = np.arange(-22, 20)  # towards the source
    z, y, x = MIDDLE
    along = dose[z, y + row * steps, x + column * steps]
    depth_mm = -4.0 * steps - SURFACE_MM
    # 100 mm at the isocentre: the axis has the same spread at every distance
    expected = depth_dose(depth_mm, 100.0, 1000.0 + SURFACE_MM)
    # Fields widen with distance, and with them the share of scatter; sampling along the ray smooths the build-up
    assert along == pytest.approx(expected, rel=0.01)


def test_distance_weakens_the_beam_by_its_square():
    near, far = (Patient(WATER.density, Z_MM, Y_MM + shift, X_MM) for shift in (0.0, 200.0))
    ratio = dose_of(near, 0)[MIDDLE] / dose_of(far, 0)[MIDDLE]
    assert ratio == pytest.approx((1200 / 1000) ** 2, rel=0.01)


def test_denser_matter_shadows_what_lies_behind_it():
    dense = WATER.density.copy()
    dense[:, 10:15, :] *= 2  # 20 mm of water more
    before, behind = (MIDDLE[0], 8, MIDDLE[2]), MIDDLE
    water, shadowed = dose_of(WATER, 0), dose_of(Patient(dense, Z_MM, Y_MM, X_MM), 0)
    assert shadowed[before] == pytest.approx(water[before], rel=1e-5)
    deeper = depth_dose(np.array([120.0]) - SURFACE_MM - 100, 100.0, 1000.0 + SURFACE_MM)
    as_deep = depth_dose(np.array([100.0]) - SURFACE_MM - 100, 100.0, 1000.0 + SURFACE_MM)
    expected = float((deeper / as_deep).item()) * ((1000 + 20) / 1000) ** 2
    assert shadowed[behind] / water[behind] == pytest.approx(expected, rel=0.03)


def test_dose_is_symmetric_where_patient_and_field_are():
    dose = dose_of(WATER, 0)
    assert dose == pytest.approx(dose[:, :, ::-1], abs=1e-5)
    assert dose == pytest.approx(dose[::-1], abs=1e-5)
    assert dose_of(WATER, 90) == pytest.approx(dose.transpose(0, 2, 1)[:, :, ::-1], abs=1e-5)


def test_rays_diverge():
    dose = dose_of(WATER, 0)
    z, y, x = MIDDLE
    for row in (y - 20, y + 20):
        profile = dose[z, row, :] / dose[z, row, x]
        half_mm = np.interp(-0.5, -profile[x:], X_MM[x:])
        assert half_mm == pytest.approx(50 * (1000 + Y_MM[row]) / 1000, abs=1.0)


def test_the_transpose_is_the_transpose():
    random = torch.Generator().manual_seed(1)
    uneven = Patient(WATER.density * np.linspace(0.5, 1.5, len(X_MM), dtype=np.float32), Z_MM, Y_MM, X_MM)
    arc = ArcDose(uneven, [20.0, 140.0, 287.5], Aperture(EDGES_MM, EDGES_MM[3:-5]), STEP_MM)
    fluence = torch.rand((3, 20, 12), generator=random)
    dose = arc.dose(fluence)
    weights = torch.rand(dose.shape, generator=random)
    left = (dose.double() * weights.double()).sum()
    right = (fluence.double() * arc.transpose(weights).double()).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-5)


def test_kept_control_points_give_the_same_dose():
    arc = ArcDose(WATER, [20.0, 140.0], FIELD, STEP_MM)
    fluence = torch.ones(2, *FIELD.shape)
    before = arc.dose(fluence)
    arc.keep()
    assert torch.equal(arc.dose(fluence), before)

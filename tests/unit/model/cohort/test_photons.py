"""The 6 MV beam in water against published depth doses and closed forms."""

import numpy as np
import pytest

from model.cohort.photons import ATTENUATION_PER_MM, COMPONENTS, PRIMARY, Component, depth_dose

DEPTH_MM = np.arange(0.0, 301.0)

BJR_25 = {(60, 100): 64.9, (60, 200): 36.4, (70, 100): 65.7, (70, 200): 37.2, (100, 100): 67.5, (100, 200): 39.3}
"""(side of the field, depth) in mm → percentage depth dose at 6 MV, source to surface 1000 mm: Brit. J. Radiol.
Supplement 25, Central axis depth dose data for use in radiotherapy (1996), section 5."""


@pytest.mark.parametrize("side_mm", [60, 70, 100])
def test_depth_dose_is_the_published_one(side_mm):
    dose = depth_dose(DEPTH_MM, side_mm, 1000.0)
    percentage = 100 * dose / dose.max()
    for (side, depth), published in BJR_25.items():
        if side == side_mm:
            assert percentage[depth] == pytest.approx(published, abs=0.5)
    assert 13 <= dose.argmax() <= 17  # 15 mm at 6 MV


def test_dose_grows_with_the_field_and_ends_at_the_sum_of_all_shares():
    doses = [float(depth_dose(np.array([100.0]), side, 900.0).item()) for side in (30, 60, 100, 200, 2000)]
    assert doses == sorted(doses)
    assert doses[-1] == pytest.approx(sum(float(c.at_depth(np.array([100.0])).item()) for c in COMPONENTS), rel=1e-6)


def test_beyond_build_up_the_primary_falls_exponentially():
    dose = PRIMARY.at_depth(DEPTH_MM)
    assert dose[0] == 0
    assert np.diff(np.log(dose[60:])) == pytest.approx(-ATTENUATION_PER_MM, rel=1e-4)


def test_a_wide_strip_has_half_its_dose_at_its_edge_and_the_spreads_penumbra():
    component = Component(share=1.0, build_up_per_mm=0.3, spread_mm=3.0)
    points = np.linspace(-60, 60, 2401)
    profile = component.spread(points, np.array([-40.0, 40.0]))[:, 0]
    assert np.interp(40, points, profile) == pytest.approx(0.5, abs=1e-6)
    assert profile == pytest.approx(profile[::-1], abs=1e-12)
    falling = points > 0
    from_80, to_20 = (np.interp(-level, -profile[falling], points[falling]) for level in (0.8, 0.2))
    assert to_20 - from_80 == pytest.approx(2 * 0.8416 * 3.0, rel=1e-3)  # quantiles of the normal distribution


def test_strips_side_by_side_are_one_wide_strip():
    edges = np.arange(-20.0, 21.0, 5.0)
    points = np.linspace(-50, 50, 11)
    assert PRIMARY.spread(points, edges).sum(-1) == pytest.approx(PRIMARY.spread(points, edges[[0, -1]])[:, 0])

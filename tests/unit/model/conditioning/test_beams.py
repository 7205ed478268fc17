"""Open fields: where they come from, how far they reach, how they fall off, against closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from model.case import Beam, VoxelGrid
from model.checkpoint.manifest import Channel, NetworkGrid
from model.conditioning.beams import ATTENUATION_PER_MM, MOST_ANGLES, Field, fields_of, open_fields
from model.conditioning.channels import condition
from model.conditioning.framing import Framing
from model.conditioning.head_and_neck import NORMALISATION, SITE
from model.dosimetry.rays import SOURCE_AXIS_MM, relative_electron_density

SLICES, ROWS, COLUMNS = 41, 81, 81
PIXEL_MM, SLICE_MM = 4.0, 5.0
MIDDLE = (20, 40, 40)
ISOCENTRE_MM = (20 * SLICE_MM, 40 * PIXEL_MM, 40 * PIXEL_MM)


@pytest.fixture
def framing() -> Framing:
    grid = VoxelGrid((SLICES, ROWS, COLUMNS), (SLICE_MM, PIXEL_MM, PIXEL_MM), (0.0, 0.0, 0.0))
    network = NetworkGrid(rows=ROWS, columns=COLUMNS, pixel_spacing_mm=PIXEL_MM, slice_spacing_mm=SLICE_MM)
    return Framing.of(np.ones(grid.shape, bool), grid, network)


@pytest.fixture
def water() -> np.ndarray:
    return np.ones((SLICES, ROWS, COLUMNS), np.float32)


@pytest.fixture
def target() -> np.ndarray:
    """A box of 40 mm (z) × 32 mm × 32 mm about the isocentre, edges between voxels."""
    mask = np.zeros((SLICES, ROWS, COLUMNS), np.float32)
    mask[16:25, 36:45, 36:45] = 1
    return mask


def dose_of(gantry_deg: float, density: np.ndarray, target: np.ndarray, framing: Framing) -> np.ndarray:
    ((dose,),) = open_fields(density, [target], framing, [Field(gantry_deg, ISOCENTRE_MM)])
    return dose


# Where the source stands, in steps of rows (to posterior) and columns (to the left) from the isocentre
@pytest.mark.parametrize(
    ("gantry_deg", "row", "column"), [(0, -1, 0), (90, 0, 1), (180, 1, 0), (270, 0, -1), (360, -1, 0)]
)
def test_a_field_falls_off_along_its_axis_by_attenuation_and_distance(framing, water, target, gantry_deg, row, column):
    dose = dose_of(gantry_deg, water, target, framing)
    steps = np.arange(-30, 31)  # towards the source
    found = dose[20, 40 + row * steps, 40 + column * steps]
    t_mm = -steps * PIXEL_MM
    expected = np.exp(-ATTENUATION_PER_MM * t_mm) / ((SOURCE_AXIS_MM + t_mm) / SOURCE_AXIS_MM) ** 2
    np.testing.assert_allclose(found / found[30], expected, rtol=2e-3)
    # The way in is 40.5 pixels of water
    assert found[30] == pytest.approx(np.exp(-ATTENUATION_PER_MM * 40.5 * PIXEL_MM), rel=0.02)


def test_an_oblique_field_comes_from_between(framing, water, target):
    dose = dose_of(45, water, target, framing)
    assert dose[20, 20, 60] > dose[20, 60, 20] > 0  # anterior left, posterior right
    assert dose[20, 20, 20] == dose[20, 60, 60] == 0
    mirrored = dose_of(315, water, target, framing)
    np.testing.assert_allclose(mirrored, dose[:, :, ::-1], atol=1e-5)


def test_a_field_diverges_across_and_along_the_patient(framing, water, target):
    """Where the dose falls to half of its axis: the field's edge runs along a ray."""
    dose = dose_of(0, water, target, framing)
    for row in (5, 40, 75):
        across, along = dose[20, row, 40:], dose[20:, row, 40]
        magnification = (SOURCE_AXIS_MM + (row - 40) * PIXEL_MM) / SOURCE_AXIS_MM
        # The target's farthest corner, which lies nearest to the source, makes the field widest
        widest = SOURCE_AXIS_MM / (SOURCE_AXIS_MM - 4 * PIXEL_MM)
        half_mm = np.interp(-0.5 * across[0], -across, np.arange(len(across))) * PIXEL_MM
        assert half_mm == pytest.approx(18.0 * widest * magnification, abs=0.5 * PIXEL_MM)
        half_mm = np.interp(-0.5 * along[0], -along, np.arange(len(along))) * SLICE_MM
        assert half_mm == pytest.approx(22.5 * widest * magnification, abs=0.5 * SLICE_MM)


def test_dense_tissue_casts_a_shadow_and_air_a_bright_one(framing, water, target):
    plain = dose_of(0, water, target, framing)
    for density in (2.0, 0.0):
        changed = water.copy()
        changed[:, 10:20, 38:43] = density  # 40 mm, before the isocentre
        ratio = dose_of(0, changed, target, framing)[20, 40, 40] / plain[20, 40, 40]
        assert ratio == pytest.approx(np.exp(-ATTENUATION_PER_MM * 40 * (density - 1)), rel=5e-3)
        behind = dose_of(180, changed, target, framing)[20, 40, 40]
        assert behind == pytest.approx(dose_of(180, water, target, framing)[20, 40, 40])


def test_each_target_has_its_own_field_and_an_empty_one_none(framing, water, target):
    narrow = target.copy()
    narrow[:, :, :40] = 0
    empty = np.zeros_like(target)
    ((wide_dose, narrow_dose, no_dose),) = open_fields(
        water, [target, narrow, empty], framing, [Field(0, ISOCENTRE_MM)]
    )
    assert wide_dose[20, 40, 37] > 0.3
    assert narrow_dose[20, 40, 37] < 0.01
    np.testing.assert_allclose(narrow_dose[20, :, 42], wide_dose[20, :, 42], rtol=1e-5)
    assert not no_dose.any()
    ((nothing,),) = open_fields(water, [empty], framing, [Field(0, ISOCENTRE_MM)])
    assert not nothing.any()


def test_electron_density_is_that_of_the_tissues():
    found = relative_electron_density(np.array([-1000.0, -2000.0, 0.0, -100.0, 1000.0], np.float32))
    np.testing.assert_allclose(found, [0, 0, 1, 0.9, 1 + 1000 / 1950], rtol=1e-6)


def test_without_a_plan_the_sites_fields_meet_in_the_middle_of_the_targets(block_case):
    fields, warning = fields_of(block_case, SITE.gantry_deg)
    assert [field.gantry_deg for field in fields] == list(SITE.gantry_deg)
    assert "no plan" in warning
    z, y, x = (np.mean(k) for k in np.nonzero(block_case.target_map_gy() > 0))
    assert fields[0].isocentre_mm == pytest.approx((z * 2.5, y * 10, x * 10))
    with pytest.raises(ValueError, match="no beams"):
        fields_of(block_case, ())


def test_a_plans_beams_are_used_in_the_patients_coordinates(block_case, reorient):
    beams = (Beam((10.0,), (1.0, 2.0, 3.0)), Beam((200.0, 210.0)))
    case = replace(block_case, beams=beams)
    expected_mm = (3.0 + 40.0, 2.0 + 100.0, 1.0 + 120.0)  # from the first voxel at (-120, -100, -40)
    for stored in (case, reorient(case, (2, 0, 1), (True, False, True))):
        fields, warning = fields_of(stored, SITE.gantry_deg)
        assert warning is None
        assert [field.gantry_deg for field in fields] == [10, 200, 210]
        assert fields[0].isocentre_mm == pytest.approx(expected_mm)
        assert fields[1].isocentre_mm == fields_of(block_case, (0.0,))[0][0].isocentre_mm


def test_a_turned_couch_is_told_and_not_guessed_at(block_case):
    case = replace(block_case, beams=(Beam((10.0,), couch_deg=0.0), Beam((20.0,), couch_deg=90.0)))
    fields, warning = fields_of(case, SITE.gantry_deg)
    assert len(fields) == len(SITE.gantry_deg)
    assert "couch" in warning


@pytest.mark.parametrize("isocentre_mm", [(1e20, 0.0, 0.0), (0.0, -990.0, 0.0), (0.0, 0.0, 5000.0), (0.0, 0.0, -1e300)])
def test_an_isocentre_that_is_none_is_told(block_case, isocentre_mm: tuple[float, float, float]) -> None:
    case = replace(block_case, beams=(Beam((10.0,), (1.0, 2.0, 3.0)), Beam((0.0,), isocentre_mm)))
    fields, warning = fields_of(case, SITE.gantry_deg)
    assert len(fields) == len(SITE.gantry_deg)
    assert "isocentre" in warning


def test_an_arc_is_thinned_out(block_case):
    arc = Beam(tuple(float(angle) for angle in range(180)))
    fields, _ = fields_of(replace(block_case, beams=(arc,)), ())
    assert len(fields) == MOST_ANGLES
    assert fields[1].gantry_deg == 5


def test_channels_hold_all_beams_by_level_and_some_by_sector(block_case):
    grid = NetworkGrid(rows=32, columns=32, pixel_spacing_mm=10.0, slice_spacing_mm=2.5)
    levels = [Channel(kind="open-fields", name=level.name) for level in SITE.target_levels]
    sectors = [Channel(kind="open-field-sector", name=name) for name in ("0", "90", "270")]
    case = replace(block_case, beams=(Beam((350.0,)), Beam((20.0,)), Beam((80.0,))))
    found = condition(case, SITE, grid, [*levels, *sectors], NORMALISATION)
    assert found.warnings == ()
    prescribed = found.framing.images(case.grid.to_canonical(case.target_map_gy()))
    high, mid, low = (found.planes[c] for c in levels)
    for dose, level_gy in ((high, 70), (low, 50)):  # PTV56 is the low level, with PTV70 part of its region
        region = prescribed >= level_gy
        assert dose[region].mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(mid, high)  # there is no target of the level between
    front, left, right = (found.planes[c] for c in sectors)
    alone = [condition(replace(case, beams=(beam,)), SITE, grid, sectors, NORMALISATION).planes for beam in case.beams]
    np.testing.assert_allclose(front, (alone[0][sectors[0]] + alone[1][sectors[0]]) / 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(left, alone[2][sectors[1]], rtol=1e-6)
    assert not right.any()
    assert "usual" in condition(block_case, SITE, grid, levels, NORMALISATION).warnings[0]

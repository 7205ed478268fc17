"""Structure images x and dose maps y of a small patient whose every voxel is known."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.case import EXTERNAL, Prescription, Structure
from model.checkpoint.manifest import Channel, NetworkGrid
from model.conditioning import head_and_neck
from model.conditioning.channels import dose_from_network, dose_to_network

NORMALISATION = head_and_neck.NORMALISATION
ORIENTATIONS = [(order, flipped) for order in permutations(range(3)) for flipped in product((False, True), repeat=3)]


def one(conditioned, case, **channel):
    """All slices of one channel, at the case's own voxels."""
    conditioning = conditioned(case, [Channel(**channel)])
    images = conditioning.structure_images(range(conditioning.slice_count))[:, 0]
    return conditioning.framing.to_case(images)[1:6], images


@pytest.mark.parametrize(("order", "flipped"), ORIENTATIONS)
def test_images_do_not_depend_on_how_the_patient_is_stored(block_case, reorient, conditioned, order, flipped):
    expected = conditioned(block_case)
    case = reorient(block_case, order, flipped)
    found = conditioned(case)
    every = np.arange(expected.slice_count)
    np.testing.assert_array_equal(found.structure_images(every), expected.structure_images(every))
    np.testing.assert_array_equal(found.external, expected.external)
    dose = np.random.default_rng(0).uniform(0, 70, expected.external.shape).astype(np.float32)
    np.testing.assert_array_equal(case.grid.to_canonical(case.hu), block_case.hu)
    np.testing.assert_array_equal(found.framing.to_case(dose), expected.framing.to_case(dose))


def test_ct_is_scaled_to_one_and_is_air_outside_the_patient(block_case, conditioned):
    external = block_case.external
    found, images = one(conditioned, block_case, kind="ct")
    expected = np.where(external, (np.clip(block_case.hu, -1000.0, 1500.0) + 1000) / 1250 - 1, -1)
    np.testing.assert_allclose(found, expected[1:6], atol=1e-5)
    assert images.min() >= -1
    assert images[:, 0].max() == -1  # beyond the CT


def test_the_couch_does_not_matter(block_case, conditioned):
    with_couch = replace(block_case, hu=np.where(block_case.external, block_case.hu, 700).astype(np.int16))
    x = [conditioned(case).structure_images([0, 1, 2]) for case in (block_case, with_couch)]
    np.testing.assert_array_equal(*x)


@pytest.mark.parametrize("name", ["Parotid_R", "Parotid_L", "SpinalCord"])
def test_organs_are_their_masks(block_case, conditioned, name):
    found, _ = one(conditioned, block_case, kind="organ", name=name)
    np.testing.assert_array_equal(found, block_case.structures[name].mask[1:6])


def test_the_outline_is_a_channel(block_case, conditioned):
    found, _ = one(conditioned, block_case, kind="external")
    np.testing.assert_array_equal(found, block_case.external[1:6])


def test_organs_that_the_patient_lacks_are_empty(block_case, conditioned):
    _, images = one(conditioned, block_case, kind="organ", name="Larynx")
    assert images.shape == (5, 32, 32)
    assert not images.any()


def test_where_targets_overlap_the_higher_prescription_wins(block_case, conditioned):
    high, low = (block_case.structures[name].mask[1:6] for name in ("PTV70", "PTV56"))
    np.testing.assert_array_equal(one(conditioned, block_case, kind="target", name="PTV_High")[0], high)
    np.testing.assert_array_equal(one(conditioned, block_case, kind="target", name="PTV_Low")[0], low & ~high)
    assert not one(conditioned, block_case, kind="target", name="PTV_Mid")[0].any()


@pytest.mark.parametrize(
    ("doses", "level"), [((70, 63), "PTV_Mid"), ((60, 54), "PTV_Mid"), ((60, 48), "PTV_Low"), ((66, 50), "PTV_Low")]
)
def test_targets_belong_to_the_level_nearest_to_their_share(block_case, conditioned, doses, level):
    case = replace(block_case, prescription=Prescription(dict(zip(("PTV70", "PTV56"), doses, strict=True)), 30, "plan"))
    low = case.structures["PTV56"].mask & ~case.structures["PTV70"].mask
    np.testing.assert_array_equal(one(conditioned, case, kind="target", name=level)[0], low[1:6])


def test_two_targets_of_one_dose_share_a_level(block_case, conditioned):
    case = replace(block_case, prescription=Prescription({"PTV70": 60.0, "PTV56": 60.0}, 30, "plan"))
    expected = case.structures["PTV56"].mask  # which holds the other
    np.testing.assert_array_equal(one(conditioned, case, kind="target", name="PTV_High")[0], expected[1:6])


def test_distance_is_positive_outside_targets_and_a_share_of_the_limit(block_case, conditioned):
    found, images = one(conditioned, block_case, kind="target-distance")
    # Row 10 cuts the targets in columns 8 to 14 of slices 1 to 4; a voxel is 2.5 mm by 10 mm by 10 mm, the limit 100 mm
    np.testing.assert_allclose(found[0, 10, 4:8], [0.4, 0.3, 0.2, 0.1], atol=1e-6)
    np.testing.assert_allclose(found[0, 10, 15:21], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], atol=1e-6)
    # Nothing is known below the network's first slice, so inside the next edge is that of slice 5
    np.testing.assert_allclose(found[:, 10, 11], [-0.1, -0.075, -0.05, -0.025, 0.025], atol=1e-6)
    assert images.max() == 1
    assert images.min() == pytest.approx(-0.1)


def test_without_any_target_all_is_far_away(block_case, conditioned):
    nothing = Structure("PTV70", np.zeros_like(block_case.external), "target")
    case = replace(
        block_case,
        structures=block_case.structures | {"PTV70": nothing},
        prescription=Prescription({"PTV70": 70.0}, 35, "plan"),
    )
    assert (one(conditioned, case, kind="target-distance")[1] == 1).all()
    assert not one(conditioned, case, kind="open-fields", name="PTV_High")[1].any()


@pytest.mark.parametrize("seed", range(3))
def test_images_come_in_the_order_asked_for(block_case, conditioned, seed):
    channels = list(head_and_neck.CHANNELS)
    order = np.random.default_rng(seed).permutation(len(channels))
    expected = conditioned(block_case, channels).structure_images([3, 1])
    found = conditioned(block_case, [channels[k] for k in order]).structure_images([3, 1])
    np.testing.assert_array_equal(found, expected[:, order])
    # What a sector holds depends on which others there are
    alone = [k for k, channel in enumerate(channels) if channel.kind != "open-field-sector"]
    single = [one(conditioned, block_case, **channels[k].model_dump())[1][3] for k in alone]
    np.testing.assert_array_equal(expected[0, alone], single)


@pytest.mark.parametrize(
    ("offset_mm", "steps"), [(5.0, 2), (10.0, 4), (-5.0, -2), (-2.5, -1), (0.0, 0), (-1000.0, -400)]
)
def test_neighbours_lie_towards_the_head_and_clamp_at_the_ends(block_case, conditioned, offset_mm, steps):
    alone = one(conditioned, block_case, kind="ct")[1]
    neighbour = one(conditioned, block_case, kind="ct", offset_mm=offset_mm)[1]
    for k in range(5):
        np.testing.assert_array_equal(neighbour[k], alone[min(max(k + steps, 0), 4)])


def test_neighbours_keep_their_distance_where_slices_are_left_out(block_case, conditioned):
    grid = NetworkGrid(rows=32, columns=32, pixel_spacing_mm=10.0, slice_spacing_mm=5.0)
    conditioning = conditioned(block_case, [Channel(kind="ct"), Channel(kind="ct", offset_mm=5.0)], grid)
    assert conditioning.slice_count == 3  # every second of five
    x = conditioning.structure_images([0, 1, 2])
    np.testing.assert_array_equal(x[:2, 1], x[1:, 0])


@given(
    arrays(np.float32, 20, elements=st.floats(0, 200, width=32)),
    st.floats(10.0, 90.0),
)
def test_dose_survives_network_units_and_nothing_is_cut_above(dose_gy, highest_gy):
    y = dose_to_network(dose_gy, highest_gy, NORMALISATION)
    np.testing.assert_allclose(y, 2 * dose_gy / highest_gy - 1, atol=1e-4)
    np.testing.assert_allclose(dose_from_network(y, highest_gy, NORMALISATION), dose_gy, atol=1e-4)


def test_there_is_no_negative_dose():
    values = np.array([-3.0, -1.0, 1.0, 2.5], np.float32)
    np.testing.assert_allclose(dose_from_network(values, 70.0, NORMALISATION), [0, 0, 70, 122.5])


def test_an_empty_outline_is_refused(block_case, conditioned):
    nothing = Structure(EXTERNAL, np.zeros_like(block_case.external), "external")
    with pytest.raises(ValueError, match="empty"):
        conditioned(replace(block_case, structures=block_case.structures | {EXTERNAL: nothing}))


def test_the_sites_channels_can_be_told_apart():
    assert len(set(head_and_neck.CHANNELS)) == len(head_and_neck.CHANNELS)
    organs = [c.name for c in head_and_neck.CHANNELS if c.kind == "organ"]
    assert organs == [organ.name for organ in head_and_neck.SITE.organs]

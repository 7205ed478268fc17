"""Training slices: what is drawn, mirrored and cropped."""

from dataclasses import replace

import numpy as np
import pytest

from model.checkpoint.manifest import Channel, NetworkGrid
from model.conditioning import head_and_neck
from model.conditioning.channels import condition
from model.training.case_file import load_case, save_case
from model.training.slices import SliceSampler, flipped_channels, load_training_cases


def test_a_mirrored_image_is_that_of_a_mirrored_patient(block_case, recipe):
    """The patient's own mirror image: every mask turned left to right, right organs called left ones."""
    partner = {"Parotid_R": "Parotid_L", "Parotid_L": "Parotid_R"}
    mirrored = replace(
        block_case,
        hu=block_case.hu[:, :, ::-1],
        structures={
            partner.get(name, name): replace(s, name=partner.get(name, name), mask=s.mask[:, :, ::-1])
            for name, s in block_case.structures.items()
        },
    )
    # An odd number of columns has a middle one, and so has the outline
    grid = NetworkGrid(rows=32, columns=33, pixel_spacing_mm=10.0, slice_spacing_mm=2.5)
    one, other = (
        condition(case, recipe.site, grid, head_and_neck.CHANNELS, recipe.normalisation).structure_images(range(5))
        for case in (block_case, mirrored)
    )
    order = flipped_channels(head_and_neck.CHANNELS)
    np.testing.assert_array_equal(one[:, order, :, ::-1], other)
    assert (one[..., ::-1] != other).any()  # without the exchange it would be wrong


def test_an_organ_without_its_partner_cannot_be_mirrored():
    with pytest.raises(ValueError, match="not in list"):
        flipped_channels([Channel(kind="ct"), Channel(kind="organ", name="Parotid_L")])


def test_a_case_file_becomes_normalised_images(patients, recipe, block_case):
    case = recipe.condition_file(patients[0])
    expected = condition(load_case(patients[0]), recipe.site, recipe.grid, recipe.channels, recipe.normalisation)
    found = case.conditioning.structure_images(range(5))
    np.testing.assert_allclose(found, expected.structure_images(range(5)), atol=1e-3)  # half precision
    assert case.y.dtype == np.float16
    outside = expected.external == 0
    assert (case.y[outside] == -1).all()
    # The network's centre lies on row 10 and column 12, dose is twice its share of 70 Gy minus 1
    dose_gy = block_case.dose_gy[1:6] * block_case.external[1:6]
    np.testing.assert_allclose(case.y[:, 6:27, 4:29], 2 * dose_gy / 70 - 1, atol=2e-3)


def test_batches_are_crops_of_slices_or_their_mirror_images(sampler, patients, recipe):
    cases = load_training_cases(patients, recipe, 2, lambda *_: None)
    order = flipped_channels(recipe.channels)
    batch = sampler.draw(40)
    assert batch.x.shape == (40, len(recipe.channels), 16, 32)
    assert batch.y.shape == batch.inside.shape == (40, 1, 16, 32)
    seen = set()
    for x, y, inside in zip(batch.x.numpy(), batch.y.numpy()[:, 0], batch.inside.numpy()[:, 0], strict=True):
        found = []
        for which, case in enumerate(cases):
            images = case.conditioning.structure_images(range(5))
            for k in range(5):
                for top in range(17):
                    rows = slice(top, top + 16)
                    for mirror in (False, True):
                        wanted = case.y[k, rows].astype(np.float32)
                        wanted = wanted[:, ::-1] if mirror else wanted
                        if np.array_equal(y, wanted):
                            whole = images[k, :, rows]
                            whole = whole[order, :, ::-1] if mirror else whole
                            mask = case.conditioning.external[k, rows] > 0
                            mask = mask[:, ::-1] if mirror else mask
                            found.append((which, k, mirror, np.array_equal(x, whole), np.array_equal(inside, mask)))
        assert any(same_x and same_mask for *_, same_x, same_mask in found)
        seen |= {(which, mirror) for which, _, mirror, same_x, _ in found if same_x}
    assert seen == {(0, False), (0, True), (1, False), (1, True)}


def test_every_slice_has_the_same_chance(patients, recipe):
    cases = load_training_cases(patients, recipe, 1, lambda *_: None)
    for case in cases:
        case.y[:] = 0
    for number, (case, k) in enumerate((case, k) for case in cases for k in range(5)):
        case.y[k] = number
    drawn = SliceSampler(cases, (16, 16), np.random.default_rng(1)).draw(2000).y[:, 0, 0, 0].numpy()
    counts = np.bincount(drawn.astype(int), minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared with 9 degrees of freedom, p = 0.001


def test_the_generators_state_is_the_samplers_only_state(patients, recipe):
    cases = load_training_cases(patients, recipe, 1, lambda *_: None)
    one = SliceSampler(cases, (16, 32), np.random.default_rng(4))
    one.draw(3)
    state = one.generator.bit_generator.state
    other = SliceSampler(cases, (16, 32), np.random.default_rng(9))
    other.generator.bit_generator.state = state
    for a, b in zip(vars(one.draw(5)).values(), vars(other.draw(5)).values(), strict=True):
        assert (a == b).all()


def test_cases_come_in_the_order_of_their_files(patients, recipe):
    told = []
    for workers in (1, 2):
        cases = load_training_cases(patients, recipe, workers, lambda done, total: told.append((done, total)))
        assert cases[0].y.max() > cases[1].y.max()  # the second patient's dose is lower
    assert told == [(1, 2), (2, 2)] * 2


def test_a_slice_beyond_the_outline_is_not_drawn(block_case, recipe, tmp_path):
    save_case(block_case, tmp_path / "one.npz")
    (case,) = load_training_cases([tmp_path / "one.npz"], recipe, 1, lambda *_: None)
    assert case.conditioning.slice_count == len(case.y) == 5  # of six slices

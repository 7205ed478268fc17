"""Training images: what is drawn, mirrored and cropped."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.checkpoint.manifest import Channel, NetworkGrid
from model.conditioning import head_and_neck
from model.conditioning.channels import condition
from model.training.case_file import load_case
from model.training.slices import (
    AIR,
    SliceSampler,
    TrainingCase,
    flipped_channels,
    load_training_cases,
    memory_gib,
)

CPU = torch.device("cpu")


def test_a_mirrored_image_is_that_of_a_mirrored_patient(block_case, conditioner):
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
        condition(case, conditioner.site, grid, head_and_neck.CHANNELS, conditioner.normalisation).structure_images(
            range(5)
        )
        for case in (block_case, mirrored)
    )
    order = flipped_channels(head_and_neck.CHANNELS)
    np.testing.assert_allclose(one[:, order, :, ::-1], other, atol=1e-5)
    assert np.abs(one[..., ::-1] - other).max() > 0.5  # without the exchange it would be wrong
    sectors = [k for k, c in enumerate(head_and_neck.CHANNELS) if c.kind == "open-field-sector"]
    assert np.abs(one[:, sectors, :, ::-1] - other[:, sectors]).max() > 0.1


def test_an_organ_or_sector_without_its_partner_cannot_be_mirrored():
    for lonely in (Channel(kind="organ", name="Parotid_L"), Channel(kind="open-field-sector", name="40")):
        with pytest.raises(ValueError, match="not in list"):
            flipped_channels([Channel(kind="ct"), lonely])


def test_a_case_file_becomes_normalised_images(patients, conditioner, block_case):
    (case,) = load_training_cases(patients[:1], conditioner, (32, 32), CPU, 1, lambda *_: None)
    expected = condition(
        load_case(patients[0]),
        conditioner.site,
        conditioner.grid,
        conditioner.channels,
        conditioner.normalisation,
    )
    found = SliceSampler([case], conditioner.channels, (32, 32), seed=3, depth=5).draw(0, 8)
    whole = expected.structure_images(range(5)).transpose(1, 0, 2, 3)
    order = flipped_channels(conditioner.channels)
    same = [np.abs(x - images).max() < 2e-3 for x in found.x.numpy() for images in (whole, whole[order, ..., ::-1])]
    assert sum(same) == 8
    assert case.y.dtype == torch.float16
    assert (case.y.numpy()[expected.external == 0] == -1).all()
    # The network's centre lies on row 10 and column 12, dose is twice its share of 70 Gy minus 1
    dose_gy = block_case.dose_gy[1:6] * block_case.external[1:6]
    np.testing.assert_allclose(case.y[:, 6:27, 4:29], 2 * dose_gy / 70 - 1, atol=2e-3)


def test_batches_are_crops_of_slices_or_their_mirror_images(sampler, cases, conditioner):
    order = flipped_channels(conditioner.channels)
    whole = [SliceSampler([case], conditioner.channels, (32, 32), seed=0, depth=5) for case in cases]
    images = []
    for one in whole:
        batch = one.draw(0, 1)
        mirrored = not torch.equal(batch.y[0, 0], one._cases[0].y.float())
        images.append(batch.x[0][order].flip(-1) if mirrored else batch.x[0])  # (channels, slices, rows, columns)
    batch = sampler.draw(0, 40)
    assert batch.x.shape == (40, len(conditioner.channels), 16, 32)
    assert batch.y.shape == batch.inside.shape == (40, 1, 16, 32)
    seen = set()
    for x, y, inside in zip(batch.x, batch.y[:, 0], batch.inside[:, 0], strict=True):
        found = []
        for which, case in enumerate(cases):
            for k in range(5):
                for top in range(17):
                    rows = slice(top, top + 16)
                    for mirror in (False, True):
                        wanted, mask, image = case.y[k, rows].float(), case.inside[k, rows], images[which][:, k, rows]
                        if mirror:
                            wanted, mask, image = wanted.flip(-1), mask.flip(-1), image[order].flip(-1)
                        if torch.equal(y, wanted):
                            found.append((which, mirror, torch.equal(x, image) and torch.equal(inside, mask.float())))
        assert any(same for *_, same in found)
        seen |= {(which, mirror) for which, mirror, same in found if same}
    assert seen == {(0, False), (0, True), (1, False), (1, True)}


def test_every_slice_has_the_same_chance(cases, conditioner):
    numbered = [
        replace(case, y=torch.arange(5.0)[:, None, None].add(5 * which).expand_as(case.y).half())
        for which, case in enumerate(cases)
    ]
    drawn = SliceSampler(numbered, conditioner.channels, (16, 16), seed=1).draw(0, 2000).y[:, 0, 0, 0].numpy()
    counts = np.bincount(drawn.astype(int), minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared with 9 degrees of freedom, p = 0.001


def test_a_batch_depends_on_seed_and_number_alone(cases, conditioner):
    def drawn(seed: int, *numbers: int) -> torch.Tensor:
        sampler = SliceSampler(cases, conditioner.channels, (16, 32), seed)
        return [sampler.draw(number, 3) for number in numbers][-1].x

    assert torch.equal(drawn(4, 7), drawn(4, 0, 3, 7))
    assert not torch.equal(drawn(4, 7), drawn(4, 8))
    assert not torch.equal(drawn(4, 7), drawn(5, 7))


def test_stacks_longer_than_the_patient_count_the_rest_as_outside(cases, conditioner):
    batch = SliceSampler(cases[:1], conditioner.channels, (32, 32), seed=0, depth=8).draw(0, 2)
    assert batch.x.shape == (2, len(conditioner.channels), 8, 32, 32)
    assert batch.inside[:, :, :5].any()
    assert not batch.inside[:, :, 5:].any()
    assert torch.equal(batch.y[:, :, 5:], batch.y[:, :, 4:5].expand(-1, -1, 3, -1, -1))


def test_crops_larger_than_the_images_are_refused(cases, conditioner):
    with pytest.raises(ValueError, match="33 × 32 do not fit"):
        SliceSampler(cases, conditioner.channels, (33, 32), seed=0)


def test_cases_come_in_the_order_of_their_files(patients, conditioner):
    told = []
    for workers in (1, 2):
        cases = load_training_cases(
            patients, conditioner, (32, 32), CPU, workers, lambda done, total: told.append((done, total))
        )
        assert cases[0].y.max() > cases[1].y.max()  # the second patient's dose is lower
    assert told == [(1, 2), (2, 2)] * 2
    planes = len({c.model_copy(update={"offset_mm": 0.0}) for c in conditioner.channels})
    assert memory_gib(cases) == pytest.approx(2 * 5 * 32 * 32 * (2 * planes + 2 + 1) / 2**30)


def test_air_far_from_the_patient_is_left_out(patients, conditioner):
    wide = replace(conditioner, grid=conditioner.grid.model_copy(update={"rows": 96, "columns": 96}))

    def images(crop: tuple[int, int]) -> TrainingCase:
        (case,) = load_training_cases(patients[:1], wide, crop, CPU, 1, lambda *_: None)
        return case

    whole, part = images((96, 96)), images((16, 80))
    rows, columns = (np.flatnonzero(whole.inside.any(dim=0).any(dim=axis)) for axis in (1, 0))
    assert whole.y.shape == (5, 96, 96)
    assert part.y.shape == part.inside.shape == (5, np.ptp(rows) + 1 + 2 * AIR, 80)  # whatever the patient's width
    assert part.inside.sum() == whole.inside.sum()
    top, left = rows[0] - AIR, (columns[0] + columns[-1] + 1 - 80) // 2
    kept = (..., slice(top, top + part.y.shape[1]), slice(left, left + 80))
    for name in ("planes", "y", "inside"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[kept])


def test_some_slices_come_without_their_ct(cases, conditioner):
    ct = [k for k, channel in enumerate(conditioner.channels) if channel.kind == "ct"]
    batch = SliceSampler(cases, conditioner.channels, (32, 32), seed=0, ct_blank_share=0.25).draw(0, 400)
    blank = ~batch.x[:, ct].flatten(1).any(dim=1)
    assert 70 < blank.sum() < 130  # 100 expected, standard deviation 9
    others = [k for k in range(len(conditioner.channels)) if k not in ct]
    assert batch.x[blank][:, others].flatten(1).any(dim=1).all()

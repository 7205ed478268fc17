"""Case: what fits together and what does not."""

from dataclasses import replace

import numpy as np
import pytest

from model.case import EXTERNAL, Prescription


@pytest.mark.parametrize("names", [("PTV70", "PTV56"), ("PTV56", "PTV70")])
def test_the_higher_prescription_holds_where_targets_overlap(block_case, names):
    doses = {"PTV70": 70.0, "PTV56": 56.0}
    case = replace(block_case, prescription=Prescription({name: doses[name] for name in names}, 35, "plan"))
    high, low = (case.structures[name].mask for name in ("PTV70", "PTV56"))
    prescribed = case.target_map_gy()
    assert (prescribed[high] == 70).all()
    assert (prescribed[low & ~high] == 56).all()
    assert not prescribed[~low & ~high].any()
    assert case.prescription.highest_gy == 70


def test_arrays_must_have_the_shape_of_the_grid(block_case):
    with pytest.raises(ValueError, match="dose_gy has shape"):
        replace(block_case, dose_gy=np.zeros((1, 2, 3), np.float32))
    with pytest.raises(ValueError, match="hu has shape"):
        replace(block_case, hu=block_case.hu[:1])


def test_a_case_needs_an_outline_and_its_targets(block_case):
    without = {name: s for name, s in block_case.structures.items() if name != EXTERNAL}
    with pytest.raises(ValueError, match=EXTERNAL):
        replace(block_case, structures=without)
    with pytest.raises(ValueError, match="PTV60"):
        replace(block_case, prescription=Prescription({"PTV60": 60.0}, None, "plan"))


def test_prescriptions_are_positive_and_not_empty():
    with pytest.raises(ValueError, match="at least one"):
        Prescription({}, None, "plan")
    with pytest.raises(ValueError, match="positive"):
        Prescription({"PTV": 0.0}, None, "plan")


def test_the_reference_is_the_dose_on_its_grid(block_case):
    reference = block_case.reference()
    assert reference is not None
    assert reference.values is block_case.dose_gy
    assert reference.grid is block_case.grid
    assert replace(block_case, dose_gy=None).reference() is None

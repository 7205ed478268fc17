from dataclasses import replace

import numpy as np
import pytest

from model.case import EXTERNAL, Volume
from model.cohort.neck import simulated_neck
from model.dicom import StructureChoice, build_case, read_dose, read_study
from model.dicom.derived import Provenance, save
from model.dicom.dose_writer import write_dose
from model.dicom.export import write_study

# Slices ascend along their normal, as the reader orders them
POSITIONS = {
    "HFS": ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    "HFP": ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0)),
    "FFS": ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
    "FFP": ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0)),
}


@pytest.mark.parametrize("axes", POSITIONS.values(), ids=POSITIONS.keys())
def test_a_written_study_reads_back_as_the_same_case(tmp_path, axes):
    case = simulated_neck(8, shape=(24, 60, 64), spacing_mm=(10.0, 7.0, 7.5))
    case = replace(case, grid=replace(case.grid, axes=axes))
    study = read_study(write_study(case, tmp_path))
    assert study.warnings == ()
    choices = {roi.name: StructureChoice(roi.number, case.structures[roi.name].kind) for roi in study.rois}
    back = build_case(study, choices, case.prescription)
    assert back.grid.same_as(case.grid)
    assert np.array_equal(back.hu, case.hu)
    assert back.structures.keys() == case.structures.keys()
    for name, structure in case.structures.items():
        assert np.array_equal(back.structures[name].mask, structure.mask), name
    assert back.beams == case.beams
    assert study.plan is not None
    assert study.plan.fractions == case.prescription.fractions
    names = {roi.number: roi.name for roi in study.rois}
    assert {names[number]: dose for number, dose in study.plan.target_dose_gy.items()} == case.prescription.dose_gy

    dose_gy = (60 * case.structures[EXTERNAL].mask * (1 + case.hu / 9000.0)).clip(0)
    dataset = write_dose(
        Volume(dose_gy, study.grid),
        ct_header=study.ct_header,
        structure_set=study.structure_set,
        plan=study.plan_dataset,
        dvhs={},
        provenance=Provenance("neck", "1", "00", "0.1.0"),
    )
    save(dataset, tmp_path / "dose.dcm")
    dose = read_dose(tmp_path / "dose.dcm")
    assert dose.grid.same_as(case.grid)
    assert np.abs(dose.values - dose_gy).max() < 0.0013

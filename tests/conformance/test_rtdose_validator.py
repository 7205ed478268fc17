"""David Clunie's dciodvfy finds no error in what we write.

It aborts on 32 bits per pixel, so only the 16-bit form is checked; the 32-bit form differs in four attributes.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from model.case import Case, Volume
from model.cohort.neck import simulated_neck
from model.dicom.derived import Provenance, save
from model.dicom.dose_writer import write_dose
from model.dicom.export import write_study
from model.dicom.plan_writer import companion_plan
from model.dosimetry import dvh


@pytest.fixture(scope="module")
def case() -> Case:
    case = simulated_neck(1, shape=(20, 48, 48), spacing_mm=(12.0, 10.0, 10.0))
    return replace(case, dose_gy=(70 * case.external).astype(np.float32))


@pytest.fixture(scope="module")
def folder(case, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_study(case, folder)
    ct, structure_set, plan = (dcmread(folder / name) for name in ("CT.000.dcm", "RS.dcm", "RP.dcm"))
    provenance = Provenance("neck", "1.0", "ab" * 32, "0.1.0", simulated_training_data=True)
    companion = companion_plan(
        ct_header=ct,
        structure_set=structure_set,
        prescription=case.prescription,
        target_roi_numbers={"PTV_7000": 8},
        provenance=provenance,
    )
    save(companion, folder / "companion.dcm")
    dose = Volume(np.random.default_rng(0).uniform(0, 70, case.grid.shape), case.grid)
    dvhs = {
        number: dvh(dose.values, structure.mask, case.grid.voxel_volume_cc)
        for number, structure in enumerate(case.structures.values(), start=1)
    }
    for name, plan_of_dose, dvhs_of_dose in (
        ("dose.dcm", plan, dvhs),
        ("dose-without-dvh.dcm", plan, {}),
        ("dose-companion.dcm", companion, dvhs),
    ):
        dataset = write_dose(
            dose,
            ct_header=ct,
            structure_set=structure_set,
            plan=plan_of_dose,
            dvhs=dvhs_of_dose,
            provenance=provenance,
        )
        save(dataset, folder / name)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "dose.dcm",
        "dose-without-dvh.dcm",
        "dose-companion.dcm",
        "companion.dcm",
        "CT.000.dcm",
        "RS.dcm",
        "RP.dcm",
        "RD.dcm",
    ],
)
def test_no_errors(external_program, folder, name):
    result = external_program("dciodvfy")("-new", folder / name)
    findings = (result.stdout + result.stderr).splitlines()
    assert not [line for line in findings if "Error" in line]
    assert result.returncode == 0

"""David Clunie's dciodvfy finds no error in what we write.

Some of its builds abort on 32 bits per pixel; then a twin is checked that differs in bits and pixels only.
"""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from model.case import Case, Volume
from model.cohort.neck import simulated_neck
from model.dicom.derived import Provenance, save
from model.dicom.dose_grid import dose_grid, resample
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
    warnings = ("ROI Größe lies outside the CT", "the plan has no identifier") * 10
    provenance = Provenance(
        "neck", "1.0", "ab" * 32, "0.1.0", "Seed 1.", simulated_training_data=True, warnings=warnings
    )
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
    other_grid = resample(dose, case.external, dose_grid(case.grid, case.external, 7.0))
    for name, volume, plan_of_dose, dvhs_of_dose in (
        ("dose", dose, plan, {}),
        ("dose-dvh", dose, plan, dvhs),
        ("dose-companion", dose, companion, dvhs),
        ("dose-grid", other_grid, plan, {}),
        ("dose-grid-dvh", other_grid, companion, dvhs),
    ):
        for bits in (16, 32):
            dataset = write_dose(
                volume,
                ct_header=ct,
                structure_set=structure_set,
                plan=plan_of_dose,
                dvhs=dvhs_of_dose,
                provenance=provenance,
                bits=bits,
            )
            save(dataset, folder / f"{name}-{bits}.dcm")
    return folder


def save_twin(path: Path, twin: Path) -> None:
    """Write a dose of 32 bits with the upper 16 of them."""
    dataset = dcmread(path)
    pixels = dataset.pixel_array >> 16
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.save_as(twin)


DOSES = ["dose", "dose-dvh", "dose-companion", "dose-grid", "dose-grid-dvh"]
NAMES = [*(f"{name}-{bits}.dcm" for name in DOSES for bits in (16, 32)), "companion.dcm", "CT.000.dcm"]


@pytest.mark.parametrize("name", [*NAMES, "RS.dcm", "RP.dcm", "RD.dcm"])
def test_no_errors(external_program, folder, tmp_path, name):
    dciodvfy = external_program("dciodvfy")
    result = dciodvfy("-new", folder / name)
    if result.returncode == -signal.SIGABRT and name.endswith("-32.dcm"):
        save_twin(folder / name, tmp_path / name)
        result = dciodvfy("-new", tmp_path / name)
    findings = (result.stdout + result.stderr).splitlines()
    assert not [line for line in findings if "Error" in line]
    assert result.returncode == 0

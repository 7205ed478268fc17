"""A simulated patient with its plan, read by programs that others wrote."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pydicom.dicomio
import pytest

from model.case import Case
from model.cohort.pelvis import simulated_pelvis
from model.cohort.rectum import Effort, planned
from model.dicom.export import write_study
from model.dosimetry import dvh


@pytest.fixture(scope="module")
def case() -> Case:
    patient = simulated_pelvis(1, shape=(48, 128, 128), spacing_mm=(6.0, 4.0, 4.0))
    return planned(patient, np.random.default_rng(0), Effort((4, 8), 8.0, 5.0))


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patient")
    write_study(case, folder)
    return folder


@pytest.mark.parametrize("name", ["CT.000.dcm", "RS.dcm", "RP.dcm", "RD.dcm"])
def test_dciodvfy_finds_no_error(external_program, folder, name):
    result = external_program("dciodvfy")("-new", folder / name)
    assert not [line for line in (result.stdout + result.stderr).splitlines() if "Error" in line]
    assert result.returncode == 0


def test_dicompyler_agrees_on_the_dvhs(case, folder, monkeypatch):
    # dicompyler-core asks for a name that pydicom 3 has dropped.
    monkeypatch.setattr(pydicom.dicomio, "read_file", pydicom.dcmread, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dicompylercore import dvhcalc

        structure_set, dose = (pydicom.dcmread(folder / name) for name in ("RS.dcm", "RD.dcm"))
        for number, (name, structure) in enumerate(case.structures.items(), start=1):
            theirs = dvhcalc.get_dvh(structure_set, dose, number)
            ours = dvh(case.dose_gy, structure.mask, case.grid.voxel_volume_cc)
            # They count in bins of 0.01 Gy
            assert ours.mean_gy == pytest.approx(theirs.mean, abs=0.1), name
            assert ours.max_gy == pytest.approx(theirs.max, abs=0.1), name
            assert ours.volume_cc == pytest.approx(theirs.volume, rel=0.01), name

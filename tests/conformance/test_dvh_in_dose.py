"""dicompyler-core reads the DVHs of our RTDOSE as we counted them."""

import warnings
from pathlib import Path

import numpy as np
import pydicom.dicomio
import pytest

from model.case import Volume
from model.cohort.neck import simulated_neck
from model.dicom import read_study
from model.dicom.derived import Provenance, save
from model.dicom.dose_writer import DVH_STEP_GY, write_dose
from model.dicom.export import write_study
from model.dosimetry import dvh


def test_agrees_with_dicompyler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # dicompyler-core asks for a name that pydicom 3 has dropped.
    monkeypatch.setattr(pydicom.dicomio, "read_file", pydicom.dcmread, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dicompylercore.dvh import DVH

        case = simulated_neck(1, shape=(20, 48, 48), spacing_mm=(12.0, 10.0, 10.0))
        study = read_study(write_study(case, tmp_path / "study"))
        values = np.random.default_rng(0).gamma(4.0, 10.0, case.grid.shape)
        voxel_cc = case.grid.voxel_volume_cc
        ours = {roi.number: dvh(values, case.structures[roi.name].mask, voxel_cc) for roi in study.rois}
        dose = write_dose(
            Volume(values, case.grid),
            ct_header=study.ct_header,
            structure_set=study.structure_set,
            plan=study.plan_dataset,
            dvhs=ours,
            provenance=Provenance("neck", "1.0", "ab" * 32, "0.1.0"),
        )
        save(dose, tmp_path / "dose.dcm")
        read = pydicom.dcmread(tmp_path / "dose.dcm")
        for number, mine in ours.items():
            theirs = DVH.from_dicom_dvh(read, number)
            assert (theirs.dvh_type, theirs.dose_units, theirs.volume_units) == ("cumulative", "Gy", "cm3")
            assert theirs.volume == pytest.approx(mine.volume_cc, rel=1e-5)
            # They go by the bins
            figures = (mine.min_gy, mine.mean_gy, mine.max_gy)
            assert (theirs.min, theirs.mean, theirs.max) == pytest.approx(figures, abs=DVH_STEP_GY)
            for level_gy in (10, 30, 60):
                volume_cc = theirs.volume_constraint(level_gy, "Gy").value
                assert volume_cc == pytest.approx(mine.volume_percent_at(level_gy) / 100 * mine.volume_cc, abs=voxel_cc)

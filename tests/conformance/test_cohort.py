"""A simulated patient with its plan, read by programs that others wrote."""

import warnings

import pydicom
import pydicom.dicomio
import pytest

from model.dosimetry import dvh


@pytest.mark.parametrize("name", ["CT.000.dcm", "RS.dcm", "RP.dcm", "RD.dcm"])
def test_dciodvfy_finds_no_error(external_program, rectum_study, name):
    result = external_program("dciodvfy")("-new", rectum_study / name)
    assert not [line for line in (result.stdout + result.stderr).splitlines() if "Error" in line]
    assert result.returncode == 0


def test_dicompyler_agrees_on_the_dvhs(rectum_case, rectum_study, monkeypatch):
    # dicompyler-core asks for a name that pydicom 3 has dropped.
    monkeypatch.setattr(pydicom.dicomio, "read_file", pydicom.dcmread, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dicompylercore import dvhcalc

        structure_set, dose = (pydicom.dcmread(rectum_study / name) for name in ("RS.dcm", "RD.dcm"))
        for number, (name, structure) in enumerate(rectum_case.structures.items(), start=1):
            theirs = dvhcalc.get_dvh(structure_set, dose, number)
            ours = dvh(rectum_case.dose_gy, structure.mask, rectum_case.grid.voxel_volume_cc)
            # They count in bins of 0.01 Gy
            assert ours.mean_gy == pytest.approx(theirs.mean, abs=0.1), name
            assert ours.max_gy == pytest.approx(theirs.max, abs=0.1), name
            assert ours.volume_cc == pytest.approx(theirs.volume, rel=0.01), name

"""Studies of real patients become the cases that the packed data set holds; those of other sites are refused."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.case import EXTERNAL, Case
from model.conditioning.head_and_neck import SITE
from model.training.case_file import DOSE_STEP_GY, case_files, load_case
from model.training.dicom_import import LOG, import_dicom
from model.training.openkbp import import_openkbp
from service.intake.archive import unpack
from service.intake.limits import Limits
from service.settings import Settings

SHARED = Path(__file__).resolve().parents[3] / "shared"
PACKED = SHARED / "openkbp" / "val" / "pt_209.npz"
STUDY = SHARED / "studies" / "hn-209.zip"
DICOM = SHARED / "dicom"

TARGETS = {"PTV_5600": "PTV56", "PTV_6300": "PTV63", "PTV_7000": "PTV70"}
"""The studies' names and the data set's; all others are the same."""


def imported(source: Path, destination: Path) -> dict[str, dict[str, str]]:
    limits = Limits.of(Settings())
    import_dicom(source, destination, SITE, lambda archive, folder: unpack(archive, folder, limits), lambda *_: None)
    with (destination / LOG).open(encoding="utf-8", newline="") as file:
        return {line["source"]: line for line in csv.DictReader(file)}


@pytest.fixture
def packed(tmp_path: Path) -> Case:
    (tmp_path / "packed").mkdir()
    shutil.copy(PACKED, tmp_path / "packed")
    import_openkbp(tmp_path / "packed", tmp_path / "openkbp", lambda *_: None)
    return load_case(tmp_path / "openkbp" / "pt_209.npz")


@pytest.mark.skipif(not (PACKED.exists() and STUDY.exists()), reason="needs ../shared/studies and ../shared/openkbp")
def test_a_study_gives_the_case_that_the_data_set_holds(tmp_path: Path, packed: Case) -> None:
    (tmp_path / "source").mkdir()
    shutil.copy(STUDY, tmp_path / "source")
    (line,) = imported(tmp_path / "source", tmp_path / "cases").values()
    assert line["outcome"] == "imported"
    (path,) = case_files(tmp_path / "cases")
    case = load_case(path)

    # The data set's volume is a cube of which the study holds the scanned slices, in the other order
    heights = case.grid.points_mm(np.array([[k, 0, 0] for k in range(case.grid.shape[0])]))
    slices = np.rint(packed.grid.indices(heights)[:, 0]).astype(int)
    np.testing.assert_allclose(case.grid.spacing_mm, packed.grid.spacing_mm, rtol=1e-6)
    assert {TARGETS.get(name, name) for name in case.structures} == set(packed.structures)
    for name, structure in case.structures.items():
        expected = packed.structures[TARGETS.get(name, name)]
        assert structure.kind == expected.kind
        if name != EXTERNAL:
            np.testing.assert_array_equal(structure.mask, expected.mask[slices], err_msg=name)
    # The study's outline is the body's; the data set's mask is where dose was possible
    possible = packed.external[slices]
    assert (case.external & possible).sum() > 0.999 * possible.sum()
    np.testing.assert_array_equal(case.hu, packed.hu[slices])
    # A step of a centigray in the data set, and half a step of the RTDOSE that rounds it once more
    np.testing.assert_allclose(case.dose_gy, packed.dose_gy[slices], atol=DOSE_STEP_GY + 1e-4)
    assert {TARGETS[name]: dose for name, dose in case.prescription.dose_gy.items()} == packed.prescription.dose_gy
    assert case.prescription.fractions == packed.prescription.fractions
    assert [beam.gantry_deg for beam in case.beams] == [(float(angle),) for angle in range(0, 360, 40)]


@pytest.mark.skipif(not DICOM.exists(), reason="needs ../shared/dicom")
def test_studies_of_other_sites_are_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for name in ("eclipse-breast.zip", "eclipse-prostate-radonc.zip"):
        shutil.copy(DICOM / name, tmp_path / "source")
    lines = imported(tmp_path / "source", tmp_path / "cases")
    assert {name: line["code"] for name, line in lines.items()} == {
        "eclipse-breast.zip": "site-unknown",
        "eclipse-prostate-radonc.zip": "site-unknown",
    }
    assert [path.name for path in (tmp_path / "cases").iterdir()] == [LOG]

"""Files of many systems, read in full; what becomes of all of them is in `test_dicom_table`."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from model.case import EXTERNAL, Prescription, VoxelGrid
from model.dicom import StructureChoice, build_case, read_dose, read_study
from model.dicom.ct import decode_hu
from model.dosimetry import dvh
from model.errors import StudyError

DICOM = Path(__file__).resolve().parents[3] / "shared" / "dicom"

pytestmark = pytest.mark.skipif(not DICOM.exists(), reason="needs ../shared/dicom")

READ = {"eclipse-breast": (98, 10), "eclipse-prostate-radonc": (163, 9), "onkodicom-02": (105, 9)}
"""Archive → slices, ROIs."""

BREAST_MEAN_GY = {"Tumor Bed": (14.291, 14.293), "Heart": (0.648, 0.646), "Breast": (5.614, 5.564)}
"""Of the planning system and of an independent recomputation."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dicom")
    for archive in DICOM.glob("*.zip"):
        with zipfile.ZipFile(archive) as content:
            content.extractall(root / archive.stem)
    return root


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", READ)
def test_study_is_read(folder: Path, name: str) -> None:
    study = read_study(files(folder / name))
    assert (study.grid.shape[0], len(study.rois)) == READ[name]
    assert study.plan is not None
    assert study.plan.fractions in {7, 23, 44}


def test_structure_set_damaged_by_line_end_conversion(folder: Path) -> None:
    """It opens cleanly in the reader, with no ROI."""
    ct = files(folder / "uid-zero-ct")
    with pytest.raises(StudyError) as raised:
        read_study([*ct, folder / "malformed" / "malformed" / "slicerrt__crlf_RS.dcm"])
    assert raised.value.rule == "damaged-file"
    assert "RT Structure Set Storage" in raised.value.message


def test_codecs_give_the_same_slice(folder: Path) -> None:
    """Pixels of one image by three codecs that this project did not write, and a run-length coded one."""
    malformed = folder / "malformed" / "malformed"
    grid = VoxelGrid((1, 512, 512), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    slices = [
        decode_hu([path], grid) for path in sorted(malformed.glob("csw__CTImage*")) if "Process6_8" not in path.name
    ]
    assert len(slices) == 3
    assert all(np.array_equal(slices[0], other) for other in slices[1:])
    assert decode_hu([malformed / "fo-dicom__D_CLUNIE_CT1_RLE_FRAGS.dcm"], grid).max() == 1254


def test_breast_plan_gives_its_known_mean_doses(folder: Path) -> None:
    """Lossy JPEG 2000, a dose of another patient identifier, an ROI without contours: read in full all the same."""
    study = read_study(files(folder / "eclipse-breast"))
    assert study.plan is not None
    assert (len(study.plan.beams), study.plan.highest_dose_gy) == (4, 14.0)
    numbers = {roi.name: roi.number for roi in study.rois if roi.contour_count}
    assert len(numbers) == 9
    choices = {name: StructureChoice(number, "oar") for name, number in numbers.items()}
    choices[EXTERNAL] = StructureChoice(numbers["BODY"], "external")
    choices["Tumor Bed"] = StructureChoice(numbers["Tumor Bed"], "target")
    case = build_case(study, choices, Prescription({"Tumor Bed": 14.0}, 7, "plan"), with_reference=True)
    # Air and bone
    assert np.percentile(case.hu, 5) == pytest.approx(-1000, abs=30)
    assert case.hu.max() > 1000
    assert case.dose_gy is not None
    for name, known_gy in BREAST_MEAN_GY.items():
        mean_gy = dvh(case.dose_gy, case.structures[name].mask, case.grid.voxel_volume_cc).mean_gy
        assert [mean_gy, mean_gy] == pytest.approx(known_gy, rel=0.01), name


def test_doses(folder: Path) -> None:
    """Every RT Dose gives gray on a grid or a refusal."""
    assert read_dose(folder / "eclipse-breast" / "eclipse-breast" / "RD.dicompyler.dcm").values.max() < 20
    for path in files(folder):
        try:
            volume = read_dose(path)
        except StudyError:
            continue
        assert volume.values.shape == volume.grid.shape

"""Files of many systems: each set gives a study or a refusal with a name, never another exception."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from model.case import VoxelGrid
from model.dicom import read_dose, read_study
from model.dicom.ct import decode_hu
from model.errors import StudyError

DICOM = Path(__file__).resolve().parents[3] / "shared" / "dicom"

pytestmark = pytest.mark.skipif(not DICOM.exists(), reason="needs ../shared/dicom")

READ = {"eclipse-breast": (98, 10), "eclipse-prostate-radonc": (163, 9), "onkodicom-02": (105, 9)}
"""Archive → slices, ROIs."""

REFUSED = {
    "raystation-cheese": "missing-slice",
    "uid-zero-ct": "no-structure-set",
    "monaco-tg119": "no-ct",
    "raystation-proton-ramp": "no-ct",
    "rtdose-orientations-8": "no-ct",
    "malformed": "damaged-file",
}

MALFORMED = {
    "series-gantrytilting-001": "gantry-tilt",
    "series-sliceincrement-001": "missing-slice",
    "series-slicecount-001": "unsupported-modality",
    "pydicom-data__eCT_Supplemental.dcm": "multi-frame-ct",
    "pydicom__MR_truncated.dcm": "unsupported-modality",
    "pydicom__DICOMDIR": "nothing-readable",
    "fo-dicom__GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm": "damaged-file",
    "csw__CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": "pixel-format",
    "slicerrt__crlf_RS.dcm": "damaged-file",
    "opentps__RS_with_Modality_RTDOSE.dcm": "no-ct",
}
"""What some of the files show; the others must be refused for any named reason."""


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


def test_all_archives_are_covered(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == set(READ) | set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_study_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(StudyError) as raised:
        read_study(files(folder / name))
    assert raised.value.rule == REFUSED[name]


def test_malformed_files_are_refused_by_name(folder: Path) -> None:
    sets = list((folder / "malformed" / "malformed").iterdir())
    assert len(sets) == 40
    for path in sets:
        with pytest.raises(StudyError) as raised:
            read_study(files(path) or [path])
        assert raised.value.rule == MALFORMED.get(path.name, raised.value.rule), path.name


def test_structure_set_damaged_by_line_end_conversion(folder: Path) -> None:
    """It opens cleanly in the reader, with no ROI."""
    ct = files(folder / "uid-zero-ct")
    with pytest.raises(StudyError) as raised:
        read_study([*ct, folder / "malformed" / "malformed" / "slicerrt__crlf_RS.dcm"])
    assert raised.value.rule == "damaged-file"
    assert "RT Structure Set Storage" in raised.value.message


def test_stray_file_never_breaks_a_good_study_without_a_name(folder: Path) -> None:
    good = files(folder / "onkodicom-02")
    for stray in (folder / "malformed" / "malformed").glob("*.dcm"):
        try:
            slices = read_study([*good, stray]).grid.shape[0]
        except StudyError:
            continue
        assert slices == 105


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


def test_doses(folder: Path) -> None:
    """Every RT Dose gives gray on a grid or a refusal."""
    assert read_dose(folder / "eclipse-breast" / "eclipse-breast" / "RD.dicompyler.dcm").values.max() < 20
    for path in files(folder):
        try:
            volume = read_dose(path)
        except StudyError:
            continue
        assert volume.values.shape == volume.grid.shape

"""Masks, Hounsfield units and doses of studies against the arrays that they were made from and other programs."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.case import EXTERNAL, Case, Prescription
from model.dicom import StructureChoice, build_case, read_study

SHARED = Path(__file__).resolve().parents[3] / "shared"
OPENKBP = SHARED / "openkbp" / "val"
STUDIES = SHARED / "studies"
ECLIPSE_BREAST = SHARED / "dicom" / "eclipse-breast.zip"

LABELS = (
    "Brainstem",
    "SpinalCord",
    "Parotid_R",
    "Parotid_L",
    "Esophagus",
    "Larynx",
    "Bone_Mandible",
    "PTV_5600",
    "PTV_6300",
    "PTV_7000",
)
"""Names in the studies, in the order of the label bits."""


def extract(archive: Path, folder: Path) -> list[Path]:
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    return [path for path in folder.rglob("*") if path.is_file()]


def read_case(archive: Path, folder: Path, targets: set[str]) -> Case:
    study = read_study(extract(archive, folder))
    choices = {}
    for roi in study.rois:
        if roi.contour_count:
            external = roi.interpreted_type == "EXTERNAL"
            name = EXTERNAL if external else roi.name
            kind = "external" if external else "target" if roi.name in targets else "oar"
            choices[name] = StructureChoice(roi.number, kind)
    prescription = Prescription(dict.fromkeys(targets & set(choices), 70.0), 35, "parameter")
    return build_case(study, choices, prescription, with_reference=True)


def on_slices(array: NDArray[np.integer], case: Case) -> NDArray[np.integer]:
    """(slices, rows, columns) of the study from (rows, columns, slices from the head); the first slice is at z = 0."""
    heights = case.grid.points_mm(np.array([[k, 0, 0] for k in range(case.grid.shape[0])]))[:, 2]
    return array.transpose(2, 0, 1)[np.rint(-heights / case.grid.spacing_mm[0]).astype(int)]


@pytest.mark.skipif(not (OPENKBP.exists() and STUDIES.exists()), reason="needs ../shared/studies and ../shared/openkbp")
@pytest.mark.parametrize("patient", [201, 209, 226, 233])
def test_studies_give_back_the_arrays_that_they_were_made_from(patient: int, tmp_path: Path) -> None:
    case = read_case(STUDIES / f"hn-{patient}.zip", tmp_path, {"PTV_5600", "PTV_6300", "PTV_7000"})
    with np.load(OPENKBP / f"pt_{patient}.npz") as arrays:
        labels, ct, dose = (on_slices(arrays[name], case) for name in ("labels", "ct", "dose"))
    assert set(case.structures) > {EXTERNAL, "PTV_7000", "SpinalCord"}
    for bit, name in enumerate(LABELS):
        if name in case.structures:
            assert (case.structures[name].mask == (labels >> bit & 1).astype(bool)).all(), name
    assert (case.hu == ct.astype(int) - 1024).all()
    # Quantised to 16 bits: half a step of at most 100 Gy / 65535
    assert np.allclose(case.dose_gy, dose / 100, atol=1e-3)


@pytest.mark.skipif(not STUDIES.exists(), reason="needs ../shared/studies")
def test_volumes_on_a_fine_ct_are_those_of_the_polygons(tmp_path: Path) -> None:
    case = read_case(STUDIES / "hn-201-512px.zip", tmp_path, {"PTV_7000"})
    study = read_study([path for path in tmp_path.rglob("*") if path.is_file()])
    numbers = {roi.name: roi.number for roi in study.rois}
    for name in ("Brainstem", "SpinalCord", "Parotid_R", "Parotid_L", "Esophagus", "Larynx"):
        areas_mm2 = []
        for points in study.contours_mm[numbers[name]]:
            x, y = points[:, 0], points[:, 1]
            areas_mm2.append(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
        volume_cc = sum(areas_mm2) * case.grid.spacing_mm[0] / 1000
        mask_cc = case.structures[name].mask.sum() * case.grid.voxel_volume_cc
        # Diagonal edges run through voxel centres here, so the last digit of a corner decides about voxels of 1.4 mm
        assert mask_cc == pytest.approx(volume_cc, rel=0.02), name


@pytest.mark.skipif(not ECLIPSE_BREAST.exists(), reason="needs ../shared/dicom/eclipse-breast.zip")
def test_mean_doses_of_a_clinical_plan(tmp_path: Path) -> None:
    """CT in lossy JPEG 2000; mean doses as recomputed by an independent program from the same RTSTRUCT and RTDOSE."""
    case = read_case(ECLIPSE_BREAST, tmp_path, {"Tumor Bed"})
    assert case.dose_gy is not None
    for name, mean_gy in {"Tumor Bed": 14.293, "Heart": 0.646, "Breast": 5.564}.items():
        # 0.3 mGy is the last printed digit; the rest is how a dose grid is interpolated
        assert case.dose_gy[case.structures[name].mask].mean() == pytest.approx(mean_gy, abs=0.003)

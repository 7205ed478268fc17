"""Valid studies that are the start of every mutation; all bear the canary as the patient's name and identifier."""

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from model.cohort.neck import simulated_neck
from model.dicom.export import write_study

CANARY = "KANARIENVOGEL"
"""Found in an answer or a log line, it shows that a patient's data got out."""
PATIENT_NAME, PATIENT_ID = f"{CANARY}^Hansi", f"{CANARY}-4711"

SHAPE, SPACING_MM = (24, 60, 64), (9.5, 8.0, 8.0)

RECODED = {"implicit", "deflated"}
"""Studies of other encodings than explicit VR little endian."""

Files = dict[str, bytes]
"""Name → content; names begin with what the file is: CT, RS, RP or RD."""

TRIMMED = (("dicom/eclipse-breast.zip", 12), ("studies/hn-201.zip", 24))
"""Archives of studies, and how many slices are taken from their middle."""

HEAD_AND_NECK = ("Brainstem", "SpinalCord", "Parotid_R", "Parotid_L", "Esophagus", "Larynx", "Bone_Mandible")
"""Names that make any structure set one of the head and neck."""


def simulated_studies() -> dict[str, Files]:
    """Small simulated patients, stored in several ways."""
    plain = _simulated(1)
    return {
        "plain": plain,
        "with dose": _simulated(2, with_dose=True),
        "without plan": {name: content for name, content in _simulated(3).items() if name != "RP.dcm"},
        "run lengths": _rewritten(_simulated(4), "CT", lambda dataset: dataset.compress(RLELossless)),
        "JPEG 2000": _rewritten(_simulated(5), "CT", lambda dataset: dataset.compress(JPEG2000Lossless)),
        "implicit": _rewritten(plain, "", lambda dataset: _recode(dataset, ImplicitVRLittleEndian)),
        "deflated": _rewritten(plain, "R", lambda dataset: _recode(dataset, DeflatedExplicitVRLittleEndian)),
    }


def real_studies(folder: Path) -> dict[str, Files]:
    """Trimmed studies of real systems, from the archives in a folder; none of those that are not there."""
    return {
        Path(archive).stem: _trimmed(folder / archive, slices)
        for archive, slices in TRIMMED
        if (folder / archive).exists()
    }


def of_kind(files: Mapping[str, bytes], kind: str) -> list[str]:
    """Names of the files of a kind, in order."""
    return sorted(name for name in files if name.startswith(kind))


def _simulated(seed: int, *, with_dose: bool = False) -> Files:
    case = simulated_neck(seed, shape=SHAPE, spacing_mm=SPACING_MM)
    if with_dose:
        case = replace(case, dose_gy=case.target_map_gy())
    with TemporaryDirectory() as folder:
        paths = write_study(case, Path(folder), patient_name=PATIENT_NAME, patient_id=PATIENT_ID)
        return {path.name: path.read_bytes() for path in paths}


def _rewritten(files: Files, kind: str, change: Callable[[Dataset], None]) -> Files:
    changed = dict(files)
    for name in of_kind(files, kind):
        dataset = pydicom.dcmread(io.BytesIO(files[name]))
        change(dataset)
        changed[name] = _written(dataset)
    return changed


def _recode(dataset: Dataset, syntax: str) -> None:
    dataset.file_meta.TransferSyntaxUID = syntax
    # Written anew, not copied from the bytes that were read
    for _ in dataset.iterall():
        pass


def _written(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _trimmed(archive: Path, slices: int) -> Files:
    """Take neighbouring slices from the middle, and what was drawn there."""
    with zipfile.ZipFile(archive) as opened:
        contents = [opened.read(entry) for entry in opened.infolist() if not entry.is_dir()]
    datasets = [pydicom.dcmread(io.BytesIO(content)) for content in contents]
    for dataset in datasets:
        dataset.PatientName, dataset.PatientID = PATIENT_NAME, PATIENT_ID
    ct = sorted((d for d in datasets if d.Modality == "CT"), key=lambda d: d.ImagePositionPatient[2])
    ct = ct[(len(ct) - slices) // 2 :][:slices]
    heights = [float(image.ImagePositionPatient[2]) for image in ct]
    others = {d.Modality: d for d in datasets if d.Modality in {"RTSTRUCT", "RTPLAN"}}
    _trim_contours(others["RTSTRUCT"], heights[0] - 0.1, heights[-1] + 0.1)
    files = {f"CT.{index:03d}.dcm": _written(image) for index, image in enumerate(ct)}
    for kind, modality in (("RS", "RTSTRUCT"), ("RP", "RTPLAN")):
        _recode(others[modality], ExplicitVRLittleEndian)
        files[f"{kind}.dcm"] = _written(others[modality])
    return files


def _trim_contours(structure_set: Dataset, lowest_mm: float, highest_mm: float) -> None:
    names = {roi.ROINumber: roi for roi in structure_set.StructureSetROISequence}
    organs = iter(HEAD_AND_NECK)
    has_target = any("PTV" in roi.ROIName for roi in names.values())
    for contour_set in structure_set.ROIContourSequence:
        contours = [
            contour
            for contour in contour_set.get("ContourSequence", [])
            if len(contour.get("ContourData", [])) > 2 and lowest_mm < float(contour.ContourData[2]) < highest_mm
        ]
        contour_set.ContourSequence = contours
        roi = names[contour_set.ReferencedROINumber]
        # Whatever the site was, it becomes the one that the shipped model knows
        if contours and not {"PTV", "BODY", "EXTERNAL"} & {roi.ROIName.upper(), roi.ROIName.upper()[:3]}:
            if not has_target:
                roi.ROIName, has_target = "PTV_7000", True
            else:
                roi.ROIName = next(organs, roi.ROIName)

"""A structure that lies between the voxel centres of the CT: no mask, but a DVH in every result."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from model.checkpoint.manifest import Manifest
from model.cohort.neck import simulated_neck
from model.dicom.export import write_study
from service.intake.examine import examine
from service.intake.messages import KnownModel
from service.jobs.job import Parameters
from service.pipeline.predictor import PredictedDose
from service.pipeline.stages import Run, prepare, publish
from service.reports.content import Report
from service.storage.layout import DOSE, REPORT_JSON

SIDE_MM = 3.0


def shrink(structure_set: Dataset, name: str, middle_mm: np.ndarray) -> int:
    """Replace an ROI by a square in one slice; return its number."""
    (number,) = [roi.ROINumber for roi in structure_set.StructureSetROISequence if roi.ROIName == name]
    roi_contour = next(item for item in structure_set.ROIContourSequence if item.ReferencedROINumber == number)
    contour = roi_contour.ContourSequence[0]
    corners = SIDE_MM / 2 * np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)])
    contour.ContourData = (middle_mm + corners).ravel().round(3).tolist()
    contour.NumberOfContourPoints = 4
    del contour.ContourImageSequence
    roi_contour.ContourSequence = [contour]
    return int(number)


def test_has_a_dvh_in_dose_and_report(tmp_path: Path, tiny_manifest: Manifest) -> None:
    simulated = simulated_neck(3, shape=(24, 60, 64), spacing_mm=(10.0, 7.0, 7.5))
    files = write_study(simulated, tmp_path / "study")
    path = tmp_path / "study" / "RS.dcm"
    structure_set = dcmread(path)
    index = np.argwhere(simulated.structures["Larynx"].mask).mean(axis=0).round() + np.array([0, 0.5, 0.5])
    number = shrink(structure_set, "Larynx", simulated.grid.points_mm(index))
    structure_set.SOPInstanceUID = structure_set.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    structure_set.save_as(path)
    files = [file for file in files if file.name != "RP.dcm"]

    parameters = Parameters(prescription_gy=dict(simulated.prescription.dose_gy), dvh_in_dose=True)
    examination = examine(files, {"tiny": KnownModel.of(tiny_manifest)}, parameters)
    case = prepare(files, examination, parameters)
    assert not case.structures["Larynx"].mask.any()
    # A gradient of 1 Gy per column, and a hot spot in a target
    dose_gy = np.where(case.external, np.arange(64.0) + 5, 0).astype(np.float32)
    dose_gy[tuple(np.argwhere(case.structures["PTV_7000"].mask).mean(axis=0).astype(int))] = 80
    results = tmp_path / "results"
    results.mkdir()
    run = Run("0" * 32, datetime(2026, 1, 1, tzinfo=UTC), tiny_manifest, parameters, examination, ())
    publish(files, case, PredictedDose(dose_gy, None, 1.0, 1.0, "cpu"), run, results)

    report = Report.model_validate_json((results / REPORT_JSON).read_text(encoding="utf-8"))
    larynx = next(structure for structure in report.structures if structure.name == "Larynx")
    exact_cc = SIDE_MM**2 * case.grid.spacing_mm[0] / 1000
    assert larynx.volume_cc == pytest.approx(exact_cc, rel=0.05)
    assert any("Larynx holds no voxel centre" in warning for warning in report.metadata.warnings)

    items = {item.DVHReferencedROISequence[0].ReferencedROINumber: item for item in dcmread(results / DOSE).DVHSequence}
    middle_gy = index[2] + 5
    assert float(items[number].DVHMeanDose) == pytest.approx(middle_gy, abs=0.01)
    assert float(items[number].DVHMinimumDose) == pytest.approx(middle_gy - SIDE_MM / 7.5 / 2, abs=0.02)

"""Orthanc stores our objects beside the CT that they belong to, and gives them back as they were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from model.case import Volume
from model.cohort.neck import simulated_neck
from model.dicom import read_study
from model.dicom.derived import Provenance, save
from model.dicom.dose_writer import write_dose
from model.dicom.export import write_study
from model.dicom.plan_writer import companion_plan
from model.dosimetry import dvh

PATIENT_NAME, PATIENT_ID = "Müller^Jürgen", "4711"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study without a plan, with a dose of 16 and one of 32 bits and their companion plan."""
    folder = tmp_path_factory.mktemp("study")
    case = simulated_neck(1, shape=(20, 48, 48), spacing_mm=(12.0, 10.0, 10.0))
    case = replace(case, beams=())
    write_study(case, folder, patient_name=PATIENT_NAME, patient_id=PATIENT_ID)
    (folder / "RP.dcm").unlink()
    study = read_study(sorted(folder.iterdir()))
    provenance = Provenance("neck", "1.0", "ab" * 32, "0.1.0", warnings=("a target is cut off",))
    common = {"ct_header": study.ct_header, "structure_set": study.structure_set, "provenance": provenance}
    plan = companion_plan(prescription=case.prescription, target_roi_numbers={}, **common)
    save(plan, folder / "plan.dcm")
    values = np.random.default_rng(0).uniform(0, 70, case.grid.shape)
    dvhs = {roi.number: dvh(values, case.structures[roi.name].mask, 1.2) for roi in study.rois}
    for bits in (16, 32):
        dose = write_dose(Volume(values, case.grid), plan=plan, dvhs=dvhs, bits=bits, **common)
        save(dose, folder / f"dose-{bits}.dcm")
    return folder


@pytest.mark.parametrize("way", ["C-STORE", "HTTP"])
def test_what_is_stored_comes_back_under_the_same_patient_and_study(
    orthanc, external_program, folder: Path, way: str
) -> None:
    files = sorted(folder.iterdir())
    if way == "C-STORE":
        storescu = external_program("storescu")
        sent = storescu("-R", "-aet", "STORESCU", "-aec", "ORTHANC", "127.0.0.1", str(orthanc.dicom_port), *files)
        assert sent.returncode == 0, sent.stderr
    else:
        for path in files:
            answer = orthanc.http.post("/instances", content=path.read_bytes())
            assert (answer.status_code, answer.json()["Status"]) == (200, "Success")

    ct = dcmread(folder / "CT.000.dcm")
    (patient,) = orthanc.http.get("/patients?expand").json()
    assert patient["MainDicomTags"]["PatientID"] == PATIENT_ID
    assert patient["MainDicomTags"]["PatientName"] == PATIENT_NAME
    (study,) = orthanc.http.get("/studies?expand").json()
    assert study["MainDicomTags"]["StudyInstanceUID"] == ct.StudyInstanceUID
    series = orthanc.http.get("/series?expand").json()
    counts = sorted((s["MainDicomTags"]["Modality"], len(s["Instances"])) for s in series)
    assert counts == [("CT", 20), ("RTDOSE", 1), ("RTDOSE", 1), ("RTPLAN", 1), ("RTSTRUCT", 1)]
    frames = {s["MainDicomTags"].get("SeriesDescription") for s in series if s["MainDicomTags"]["Modality"] != "CT"}
    assert "DiffDP: predicted, not for treatment" in frames

    for path in files:
        sent = dcmread(path)
        (found,) = orthanc.http.post("/tools/lookup", content=sent.SOPInstanceUID).json()
        back = dcmread(DicomBytesIO(orthanc.http.get(f"/instances/{found['ID']}/file").content))
        assert back == sent
        assert back.get("PixelData") == sent.get("PixelData")

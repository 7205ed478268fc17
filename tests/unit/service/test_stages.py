"""What is written for a job, by its parameters and by what its study holds."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian

from model.case import Case
from model.checkpoint.manifest import Manifest
from model.cohort.neck import simulated_neck
from model.dicom.export import write_study
from service.errors import ParametersError
from service.intake.examine import examine
from service.intake.messages import KnownModel
from service.jobs.job import Examination, Parameters
from service.pipeline import stages
from service.pipeline.predictor import PredictedDose
from service.pipeline.stages import Run, prepare, publish
from service.reports.content import Report
from service.storage.layout import DOSE, PLAN, REPORT_JSON, RESULTS

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WARNINGS = ("a target is cut off", "the plan was left out")


@dataclass(frozen=True)
class Prepared:
    files: list[Path]
    examination: Examination
    case: Case
    prediction: PredictedDose


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_manifest: Manifest) -> Prepared:
    folder = tmp_path_factory.mktemp("study")
    files = write_study(simulated_neck(3, shape=(24, 60, 64), spacing_mm=(10.0, 7.0, 7.5)), folder)
    examination = examine(files, {"tiny": KnownModel.of(tiny_manifest)}, Parameters())
    case = prepare(files, examination, Parameters())
    dose_gy = np.where(case.external, 40 + case.hu / 1000.0, 0).astype(np.float32)
    return Prepared(files, examination, case, PredictedDose(dose_gy, None, 1.0, 1.0, "cpu"))


@pytest.fixture
def published(prepared: Prepared, tiny_manifest: Manifest, tmp_path: Path) -> Callable[..., dict[str, Dataset]]:
    def publish_with(files: list[Path] | None = None, **parameters: object) -> dict[str, Dataset]:
        run = Run("0" * 32, CREATED, tiny_manifest, Parameters(**parameters), prepared.examination, WARNINGS)
        publish(files or prepared.files, prepared.case, prepared.prediction, run, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} > set(RESULTS)
        return {name: dcmread(tmp_path / name) for name in (DOSE, PLAN)}

    return publish_with


def test_by_default_the_dose_has_the_voxels_of_the_ct_and_no_dvhs(published, prepared: Prepared) -> None:
    dose = published()[DOSE]
    shape = (dose.NumberOfFrames, dose.Rows, dose.Columns)
    assert shape == prepared.case.grid.shape
    np.testing.assert_allclose(
        dose.pixel_array * dose.DoseGridScaling, prepared.prediction.dose_gy, atol=dose.DoseGridScaling * 0.51
    )
    assert "DVHSequence" not in dose
    assert dose.ImageComments == "; ".join(WARNINGS)
    assert dose.DoseComment == "predicted, not for treatment; tiny 1; warnings: 2"
    local = CREATED.astimezone()
    assert (dose.InstanceCreationDate, dose.InstanceCreationTime) == (f"{local:%Y%m%d}", f"{local:%H%M%S}")


def test_the_dose_belongs_to_the_plan_of_the_study_which_stays_as_it_is(
    published, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> None:
    theirs = dcmread(next(path for path in prepared.files if path.name == "RP.dcm"))
    # Longer than explicit VR allows, as in a plan with a large compensator
    theirs.BeamSequence[0].ControlPointSequence[0].add_new("CompensatorTransmissionData", "DS", [1.5] * 20_000)
    theirs.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    changed = tmp_path_factory.mktemp("plan") / "RP.dcm"
    theirs.save_as(changed, implicit_vr=True, little_endian=True)
    written = published([path for path in prepared.files if path.name != "RP.dcm"] + [changed])
    assert written[PLAN] == dcmread(changed)
    (referred,) = written[DOSE].ReferencedRTPlanSequence
    assert referred.ReferencedSOPInstanceUID == theirs.SOPInstanceUID


def test_without_a_plan_the_dose_belongs_to_a_companion(published, prepared: Prepared) -> None:
    written = published([path for path in prepared.files if path.name != "RP.dcm"])
    plan = written[PLAN]
    (referred,) = written[DOSE].ReferencedRTPlanSequence
    assert referred.ReferencedSOPInstanceUID == plan.SOPInstanceUID
    assert (plan.PlanIntent, plan.ApprovalStatus, plan.RTPlanGeometry) == ("RESEARCH", "UNAPPROVED", "PATIENT")
    rois = {s.roi_number: s.name for s in prepared.examination.structures}
    prescribed = {rois[r.ReferencedROINumber]: r.TargetPrescriptionDose for r in plan.DoseReferenceSequence}
    assert prescribed == prepared.examination.prescription.dose_gy


def test_the_dose_may_have_a_grid_and_dvhs_of_its_own(published, prepared: Prepared, tmp_path: Path) -> None:
    dose = published(dose_grid_mm=5.5, dvh_in_dose=True)[DOSE]
    assert (list(dose.PixelSpacing), dose.GridFrameOffsetVector[1], dose.SliceThickness) == ([5.5, 5.5], 5.5, 5.5)
    structure_set = dcmread(next(path for path in prepared.files if path.name == "RS.dcm"))
    assert dose.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structure_set.SOPInstanceUID
    numbers = {item.DVHReferencedROISequence[0].ReferencedROINumber for item in dose.DVHSequence}
    assert numbers == {s.roi_number for s in prepared.examination.structures}
    # They are the report's, of the dose as it is written
    report = Report.model_validate_json((tmp_path / REPORT_JSON).read_text())
    names = {s.roi_number: s.name for s in prepared.examination.structures}
    reported = {s.name: s.dose.metrics.mean_gy for s in report.structures if s.dose}
    written = {names[i.DVHReferencedROISequence[0].ReferencedROINumber]: i.DVHMeanDose for i in dose.DVHSequence}
    assert written == pytest.approx(reported, abs=0.006)


def test_a_dose_of_too_many_voxels_is_refused_before_it_is_predicted(prepared: Prepared, monkeypatch) -> None:
    monkeypatch.setattr(stages, "MAX_DOSE_VOXELS", 40_000)
    prepare(prepared.files, prepared.examination, Parameters())
    prepare(prepared.files, prepared.examination, Parameters(dose_grid_mm=10))
    with pytest.raises(ParametersError) as error:
        prepare(prepared.files, prepared.examination, Parameters(dose_grid_mm=1))
    assert error.value.rule == "dose-grid-too-fine"
    assert error.value.details["limit"] == 40_000

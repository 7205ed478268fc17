from datetime import UTC, datetime

import numpy as np
import pytest

from model.case import EXTERNAL, Case, Prescription, Structure, VoxelGrid
from model.dosimetry.goals import Goal, GoalSet
from service.reports.content import ModelSummary, PredictionSummary, Report, ReportMetadata, StudySummary
from service.reports.evaluation import build_report
from service.reports.subject import Doses, GammaMap, Subject, gamma_map

CANONICAL = VoxelGrid((24, 40, 48), (3.0, 2.5, 2.5), (-60.0, -50.0, -30.0))


@pytest.fixture
def case() -> Case:
    """Two targets and three organs, one of them empty; bright bone marks the patient's left, anterior and head."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in CANONICAL.shape), indexing="ij")

    def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        offsets = zip((z, y, x), centre, radii, strict=True)
        return np.sum([((axis - c) / r) ** 2 for axis, c, r in offsets], axis=0) < 1

    body = ((y - 19.5) / 18) ** 2 + ((x - 23.5) / 22) ** 2 < 1
    high, low = ellipsoid((12, 20, 24), (5, 6, 6)), ellipsoid((12, 20, 24), (8, 10, 10))
    structures = {
        EXTERNAL: Structure(EXTERNAL, body, "external", "BODY", 1),
        "PTV_4500": Structure("PTV_4500", low & ~high, "target", "ptv low", 2),
        "PTV_5000": Structure("PTV_5000", high, "target", "ptv high", 3),
        "Rectum": Structure("Rectum", ellipsoid((12, 32, 24), (7, 4, 5)), "oar", '=HYPERLINK("x")<b>&', 4),
        "Lens_L": Structure("Lens_L", ellipsoid((20, 10, 30), (1, 1, 1)), "oar", "Lens_L", 5),
        "Bladder": Structure("Bladder", np.zeros(CANONICAL.shape, bool), "oar", "Bladder", 6),
    }
    reference = 51 * np.exp(-((((z - 12) / 12) ** 2 + ((y - 20) / 15) ** 2 + ((x - 24) / 15) ** 2) ** 2))
    return Case(
        hu=np.where(body, 20, -1000).astype(np.int16),
        grid=CANONICAL,
        structures=structures,
        prescription=Prescription({"PTV_4500": 45.0, "PTV_5000": 50.0}, 25, "plan"),
        dose_gy=reference.astype(np.float32),
        identifier="SECRET-PATIENT",
    )


@pytest.fixture
def subject(case: Case) -> Subject:
    return Subject.of(case, {}, {2: (0, 0, 255), 4: (255, 255, 0), 5: (255, 250, 0)})


@pytest.fixture
def goals() -> GoalSet:
    def goal(structure: str, metric: str, **limit: str) -> Goal:
        return Goal(structure=structure, metric=metric, meaning="a reason", source="BOOK", **limit)

    return GoalSet(
        site="pelvis",
        sources={"BOOK": "A. Author, A Book, 2001", "PAPER": "not cited"},
        goal=(
            goal("each target", "D95%", at_least="95 %"),
            goal("Rectum", "Dmean", at_most="5 Gy"),
            goal("Prostate", "Dmax", at_most="50 Gy"),
        ),
    )


@pytest.fixture
def metadata() -> ReportMetadata:
    return ReportMetadata(
        job_id="job-1",
        created_at=datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC),
        software_version="0.1.0",
        study=StudySummary(
            study_instance_uid="1.2.3",
            structure_set_uid="1.2.4",
            plan_uid=None,
            dose_uid="1.2.5",
            ct_voxels=(24, 40, 48),
            ct_spacing_mm=(3.0, 2.5, 2.5),
        ),
        predicted=True,
        simulated_training_data=True,
        prediction=PredictionSummary(
            model=ModelSummary(
                name="rectum",
                version="1.0.0",
                description="A model.",
                site="pelvis",
                licence="MIT",
                weights_sha256="ab" * 32,
                training_data="simulated pelves",
                training_patients=7,
                simulated_training_data=True,
                figures_of_merit={"openkbp_dvh_score_gy": 2.5, "split": "every tenth"},
            ),
            sampler="ddim",
            steps=1,
            samples=4,
            seed=7,
            device="cpu",
            duration_s=12.5,
        ),
        missing_structures=("Femur_L",),
        unused_rois=("Couch",),
        warnings=("the couch was <left> out",),
    )


@pytest.fixture
def doses(case: Case) -> Doses:
    """Two per cent below the reference, with a spread."""
    predicted = case.dose_gy * np.float32(0.98)
    return Doses(predicted, predicted / np.float32(50), case.dose_gy, "plan dose of the study")


@pytest.fixture
def gamma(subject: Subject, doses: Doses) -> GammaMap:
    return gamma_map(subject, doses.dose_gy, doses.reference_gy, 50.0)


@pytest.fixture
def report(subject: Subject, doses: Doses, metadata: ReportMetadata, goals: GoalSet, gamma: GammaMap) -> Report:
    return build_report(subject, doses, metadata, goals=goals, gamma=gamma)

from datetime import UTC, datetime

import numpy as np
import pytest

from model.case import EXTERNAL, Case, Prescription, Structure, VoxelGrid
from service.reports.content import ReportMetadata

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
def metadata() -> ReportMetadata:
    return ReportMetadata(
        job_id="job-1",
        created_at=datetime(2024, 5, 1, 12, tzinfo=UTC),
        model_name="rectum",
        model_version="1.0.0",
        weights_sha256="ab" * 32,
        sampler="ddim",
        steps=8,
        samples=4,
        seed=7,
        device="cpu",
        duration_s=12.5,
        software_version="0.1.0",
        simulated_training_data=True,
        warnings=("the couch was <left> out",),
    )

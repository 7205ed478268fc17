"""`diffdp cohort` as a user sees it; what a patient is, is tested with the model."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from model.case import Beam, Case
from model.cohort import rectum
from model.cohort.pelvis import simulated_pelvis
from model.conditioning.channels import condition
from model.conditioning.rectum import CHANNELS, GRID, NORMALISATION, SITE
from model.training.case_file import load_case
from service.cli.main import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Patients are drawn on a coarse grid, with the prescribed dose in the target and half of it elsewhere."""
    calls = []

    def drawn_patient(seed: int, number: int) -> Case:
        calls.append((seed, number))
        case = simulated_pelvis(seed, number, shape=(24, 60, 60), spacing_mm=(12.0, 8.5, 8.5))
        arc = Beam(tuple(float(angle) for angle in range(0, 360, 90)), (0.0, 0.0, 0.0))
        dose = (case.target_map_gy() + 25) * case.external
        return replace(case, beams=(arc,), dose_gy=dose.clip(max=50))

    monkeypatch.setattr(rectum, "simulated_rectum", drawn_patient)
    return calls


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.dcm"))}


def test_a_cohort_is_made_once_and_completed_later(drawn: list[tuple[int, int]], tmp_path: Path) -> None:
    command = ("cohort", "rectum", "--seed", 5, "--workers", 1)
    assert run(*command, "--patients", 2, "-o", tmp_path / "whole").exit_code == 0
    assert drawn == [(5, 1), (5, 2)]

    # One at a time, with what a killed run leaves
    (tmp_path / "parts" / ".rectum-5-002.part").mkdir(parents=True)
    assert run(*command, "--patients", 1, "-o", tmp_path / "parts").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["rectum-5-001"]
    again = run(*command, "--patients", 2, "-o", tmp_path / "parts")
    assert "2 patients" in again.stdout
    assert "1 of them new" in again.stdout
    assert drawn[2:] == [(5, 1), (5, 2)]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")

    assert run(*command, "--patients", 1, "--first", 2, "-o", tmp_path / "second").exit_code == 0
    assert [path.name for path in (tmp_path / "second").iterdir()] == ["rectum-5-002"]


def test_a_cohort_enters_training_through_the_door_of_real_studies(
    drawn: list[tuple[int, int]], tmp_path: Path
) -> None:
    run("cohort", "rectum", "--patients", 2, "--workers", 1, "-o", tmp_path / "studies")
    result = run("import", "dicom", tmp_path / "studies", tmp_path / "cases", "--site", "rectum")
    assert result.exit_code == 0, result.stderr
    assert "2 cases" in result.stdout
    case = load_case(min((tmp_path / "cases").glob("*.npz")))
    assert {organ.name for organ in SITE.organs} < set(case.structures)
    assert case.prescription.dose_gy == {"PTV_5000": 50.0}
    images = condition(case, SITE, GRID, CHANNELS, NORMALISATION)
    assert not images.warnings
    assert images.structure_images([0]).shape == (1, len(CHANNELS), 256, 256)
    assert all(plane.any() for plane in images.planes.values())


def test_the_site_must_be_known(tmp_path: Path) -> None:
    assert run("cohort", "elbow", "-o", tmp_path).exit_code == 2

"""`diffdp import dicom` as a user sees it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from model.cohort.neck import simulated_neck
from model.dicom.export import write_study
from service.cli.main import app
from service.intake.archive import pack


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a simulated patient with a dose."""
    folder = tmp_path_factory.mktemp("planned")
    case = simulated_neck(8, shape=(24, 60, 64), spacing_mm=(10.0, 7.0, 7.5))
    write_study(replace(case, dose_gy=case.target_map_gy()), folder)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["import", "dicom", *map(str, arguments)])


def test_what_was_imported_and_what_was_not_is_told(planned: Path, tmp_path: Path) -> None:
    source, cases = tmp_path / "source", tmp_path / "cases"
    source.mkdir()
    pack({path.name: path for path in sorted(planned.iterdir())}, source / "patient.zip")
    shutil.copytree(planned, source / "copy")
    (source / "broken.zip").write_bytes(b"nothing")
    (source / "read me.txt").write_text("nothing")
    result = run(source, cases)
    assert result.exit_code == 0
    assert f"1 cases in {cases}, 2 refused; see {cases / 'import.csv'}" in result.stdout
    assert "refused: patient.zip: " in result.stderr
    assert "[duplicate-case]" in result.stderr
    assert "[archive-invalid]" in result.stderr
    assert "1 files are no DICOM objects" in result.stderr
    assert "not of this import" not in result.stderr

    salted = run(source, cases, "--salt", "pepper")
    assert salted.exit_code == 0
    assert "1 case files in" in salted.stderr
    assert len(list(cases.glob("*.npz"))) == 2


def test_an_import_of_nothing_fails(planned: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(planned, source)
    (source / "RD.dcm").unlink()
    result = run(source, tmp_path / "cases")
    assert result.exit_code == 1
    assert "[no-reference-dose]" in result.stderr
    assert np.loadtxt(tmp_path / "cases" / "import.csv", dtype=str, delimiter=",", usecols=2, max_rows=2).tolist() == [
        "outcome",
        "refused",
    ]
    assert run(tmp_path / "absent", tmp_path / "cases").exit_code == 2


def test_the_data_sets_command_is_still_there(tmp_path: Path) -> None:
    assert "openkbp" in CliRunner().invoke(app, ["import", "--help"]).stdout

"""Reports as they are written: that all forms say the same as the RTDOSE, and `diffdp report` as a user sees it."""

import csv
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pypdf import PdfReader
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner, Result

from model.case import Case, VoxelGrid
from model.checkpoint.manifest import Manifest
from model.cohort.neck import simulated_neck
from model.dicom.export import write_study
from model.dicom.rasterise import sample
from model.dicom.study import read_study
from model.dosimetry import Dvh, conformity_index, homogeneity_index, structure_dvhs
from service.cli.main import app, main
from service.intake.examine import examine
from service.intake.messages import KnownModel
from service.jobs.job import Parameters
from service.pipeline.predictor import PredictedDose
from service.pipeline.stages import Run, prepare, publish
from service.settings import Settings
from service.storage.layout import RESULTS
from service.wiring import find_site_goals
from tests.tiny import tiny_manifest, tiny_rectum_manifest

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SMALL = {"shape": (24, 60, 64), "spacing_mm": (10.0, 7.0, 7.5)}


def like_a_plan(case: Case) -> NDArray[np.float32]:
    """A dose that is high in the targets and falls off around them."""
    return (gaussian_filter(case.target_map_gy(), (0.5, 1, 1)) * case.external).astype(np.float32)


class Cells(HTMLParser):
    """Collects the texts of table rows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data.strip()


def dose_in(path: Path, grid: VoxelGrid) -> NDArray[np.float32]:
    """Dose of an RTDOSE at the voxels of a grid, by nothing but the standard."""
    written = pydicom.dcmread(path)
    dose_gy = (written.pixel_array * np.float64(written.DoseGridScaling)).astype(np.float32)
    if dose_gy.shape == grid.shape:
        return dose_gy
    x0, y0, z0 = (float(x) for x in written.ImagePositionPatient)
    axes = (
        z0 + np.array(written.GridFrameOffsetVector, float),
        y0 + float(written.PixelSpacing[0]) * np.arange(written.Rows),
        x0 + float(written.PixelSpacing[1]) * np.arange(written.Columns),
    )
    points = grid.points_mm(np.stack(np.indices(grid.shape), axis=-1))[..., ::-1]  # z, y, x
    interpolate = RegularGridInterpolator(axes, dose_gy.astype(float), bounds_error=False, fill_value=0)
    return interpolate(points).astype(np.float32)


def figures(histogram: Dvh) -> dict[str, str]:
    """What is shown of every structure."""
    return {
        "d98_gy": f"{histogram.dose_at_volume_percent(98):.2f}",
        "d95_gy": f"{histogram.dose_at_volume_percent(95):.2f}",
        "d50_gy": f"{histogram.dose_at_volume_percent(50):.2f}",
        "d2_gy": f"{histogram.dose_at_volume_percent(2):.2f}",
        "d0_1cc_gy": f"{histogram.dose_at_volume_cc(0.1):.2f}",
        "mean_gy": f"{histogram.mean_gy:.2f}",
        "min_gy": f"{histogram.min_gy:.2f}",
        "max_gy": f"{histogram.max_gy:.2f}",
    }


def target_figures(histogram: Dvh, case: Case, dose_gy: NDArray[np.float32], level_gy: float) -> dict[str, str]:
    """What is shown of targets besides."""
    targets = case.target_map_gy() >= np.float32(level_gy)
    return {
        "v95_percent": f"{histogram.volume_percent_at(0.95 * level_gy):.1f}",
        "v107_percent": f"{histogram.volume_percent_at(1.07 * level_gy):.1f}",
        "homogeneity_index": f"{homogeneity_index(histogram):.3f}",
        "conformity_index": f"{conformity_index(dose_gy, targets, case.external, level_gy):.3f}",
    }


@pytest.mark.parametrize(("manifest", "dose_grid_mm"), [(tiny_manifest(), None), (tiny_rectum_manifest(), 6.0)])
def test_all_forms_agree_with_the_written_dose(
    tmp_path: Path, rectum_case: Case, manifest: Manifest, dose_grid_mm: float | None
) -> None:
    patient = replace(rectum_case, dose_gy=None) if manifest.training.simulated else simulated_neck(3, **SMALL)
    files = write_study(patient, tmp_path / "study")
    parameters = Parameters(dose_grid_mm=dose_grid_mm)
    examination = examine(files, {"tiny": KnownModel.of(manifest)}, parameters)
    case = prepare(files, examination, parameters)
    goals = find_site_goals(Settings.load())[manifest.site.name]
    results = tmp_path / "results"
    results.mkdir()
    prediction = PredictedDose(like_a_plan(case), None, 1.0, 1.0, "cpu")
    publish(files, case, prediction, Run("0" * 32, CREATED, manifest, parameters, examination, (), goals), results)
    assert {path.name for path in results.iterdir()} >= set(RESULTS)

    dose_gy = dose_in(results / "dose.dcm", case.grid)
    study = read_study(files)
    points = {
        name: found
        for name, structure in case.structures.items()
        if (found := sample(study.contours_mm.get(structure.roi_number, ()), case.grid)) is not None
    }
    histograms = structure_dvhs(case, dose_gy, points)
    report = json.loads((results / "report.json").read_text())
    table = {row["structure"]: row for row in csv.DictReader((results / "report.csv").read_text().splitlines())}
    html = Cells((results / "report.html").read_text()).rows
    pdf = re.sub(r"\s+", " ", " ".join(page.extract_text() for page in PdfReader(results / "report.pdf").pages))
    for structure in report["structures"]:
        name, histogram = structure["name"], histograms[structure["name"]]
        computed = figures(histogram)
        shown = [f"{histogram.volume_cc:.2f}"]
        if structure["kind"] == "target":
            level_gy = case.prescription.dose_gy[name]
            computed |= target_figures(histogram, case, dose_gy, level_gy)
            shown = [f"{level_gy:.2f}", *shown, *computed.values()]
        else:
            d2cc = f"{histogram.dose_at_volume_cc(2):.2f}" if histogram.volume_cc >= 2 else "–"
            shown += [computed[metric] for metric in ("mean_gy", "max_gy", "d0_1cc_gy")] + [d2cc]
            shown += [computed[metric] for metric in ("d2_gy", "d50_gy", "d95_gy", "d98_gy", "min_gy")]
        for metric, text in computed.items():
            decimals = len(text.split(".")[1])
            assert f"{structure['dose']['metrics'][metric]:.{decimals}f}" == text, (name, metric)
            assert table[name][f"dose_{metric}"] == text
        assert f"{structure['volume_cc']:.2f}" == table[name]["volume_cc"] == f"{histogram.volume_cc:.2f}"
        assert [f"{structure['number']}{name}", *shown] in html
        assert f"{structure['number']} {name} {' '.join(shown)}" in pdf
    for result in report["goals"]["results"]:
        if result["value"] is not None:
            decimals = 2 if result["unit"] == "Gy" else 1
            word = "met" if result["met"] else "missed"
            verdict = f"{word} by {abs(result['margin']):.{decimals}f} {result['unit']}"
            assert verdict in pdf
            assert f"{result['value']:.{decimals}f}" in pdf
            assert any(verdict in cell for row in html for cell in row)
    # Whoever opens any of the files learns what the model has seen
    said = "The model was trained on simulated patients and has never seen a real one."
    comment = pydicom.dcmread(results / "dose.dcm").DoseComment
    assert report["metadata"]["simulated_training_data"] is manifest.training.simulated
    for text in (pdf, (results / "report.html").read_text(), *(row["notice"] for row in table.values())):
        assert "Not for treatment decisions" in text
        assert (said in text) is manifest.training.simulated
    assert ("simulated data" in comment) is manifest.training.simulated


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a simulated patient with a dose."""
    folder = tmp_path_factory.mktemp("planned")
    case = simulated_neck(8, **SMALL)
    write_study(replace(case, dose_gy=like_a_plan(case)), folder)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def report_in(folder: Path) -> dict:
    assert sorted(path.name for path in folder.iterdir()) == ["report.csv", "report.html", "report.json", "report.pdf"]
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
    return json.loads((folder / "report.json").read_text())


def test_a_clinical_plan_of_a_known_site(rectum_study: Path, tiny_models: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DIFFDP_MODEL_DIRS", str(tiny_models))
    result = run(rectum_study, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    report = report_in(tmp_path / "out")
    assert report["disclaimer"] == "Computed by DiffDP from an RTDOSE. Not for treatment decisions."
    assert report["metadata"]["prediction"] is report["comparison"] is None
    assert report["prescription"]["source"] == "plan"
    assert report["goals"]["site"] == "rectum"
    assert [s["name"] for s in report["structures"]][:2] == ["PTV_5000", "Bladder"]


def test_a_comparison_of_two_doses(rectum_study: Path, tmp_path: Path) -> None:
    other = pydicom.dcmread(rectum_study / "RD.dcm")
    other.DoseGridScaling = float(other.DoseGridScaling) * 1.01
    other.SOPInstanceUID = pydicom.uid.generate_uid()
    other.save_as(tmp_path / "other.dcm")
    result = run(rectum_study, "-o", tmp_path / "out", "--compare", tmp_path / "other.dcm", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"]
    report = report_in(tmp_path / "out")
    assert report["metadata"]["study"]["reference_dose_uid"] == other.SOPInstanceUID
    assert report["comparison"]["gamma"]["passing_percent"] == 100.0
    high = report["structures"][0]
    assert high["difference"]["mean_gy"] == pytest.approx(-0.01 * high["dose"]["metrics"]["mean_gy"], abs=0.02)


def test_a_study_of_an_unknown_site(planned: Path, tmp_path: Path) -> None:
    names = {"PTV_7000": "PTV boost", "PTV_6300": "CTV", "PTV_5600": "Ring"}
    types = {"PTV boost": "PTV", "CTV": "CTV", "Ring": "CONTROL"}
    folder = tmp_path / "study"
    folder.mkdir()
    for path in planned.iterdir():
        dataset = pydicom.dcmread(path)
        if path.name == "RP.dcm":
            continue
        if path.name == "RS.dcm":
            renamed = {}
            for k, roi in enumerate(dataset.StructureSetROISequence):
                external = roi.ROIName == "External"
                roi.ROIName = names.get(roi.ROIName, "Outline" if external else f"Organ {k}")
                renamed[roi.ROINumber] = roi.ROIName
            for observation in dataset.RTROIObservationsSequence:
                name = renamed[observation.ReferencedROINumber]
                observation.RTROIInterpretedType = types.get(name, observation.RTROIInterpretedType)
        dataset.save_as(folder / path.name)
    result = run(folder, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    report = report_in(tmp_path / "out")
    kinds = {s["name"]: s["kind"] for s in report["structures"]}
    assert kinds["PTV boost"] == kinds["CTV"] == "target"
    assert kinds["Ring"] == "oar"
    assert kinds["External"] == "external"
    assert report["prescription"] is report["goals"] is None
    assert report["normalisation"]["meaning"] == "greatest dose"

    told = run(folder, "-o", tmp_path / "told", "--prescription-gy", "70", "--fractions", "35")
    assert told.exit_code == 0, told.output
    assert report_in(tmp_path / "told")["prescription"] == {
        "dose_gy": {"PTV boost": 70.0},
        "fractions": 35,
        "source": "parameter",
    }


def test_what_cannot_be_reported_is_refused(planned: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    def exit_code(*arguments: object) -> object:
        monkeypatch.setattr("sys.argv", ["diffdp", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    out = tmp_path / "out"
    without = [path for path in planned.iterdir() if path.name != "RD.dcm"]
    assert exit_code(*without, "-o", out) == 3
    assert "no-reference-dose" in capsys.readouterr().err
    assert exit_code(planned, "-o", out, "--compare", planned / "RS.dcm") == 3
    goals = tmp_path / "goals.toml"
    goals.write_text("site = 1")
    assert exit_code(planned, "-o", out, "--goals", goals) == 2
    assert not out.exists()
    assert exit_code(*without, "-o", out, "--dose", planned / "RD.dcm") == 0

"""DVHs of RTSTRUCT and RTDOSE against those of dicompyler-core and plastimatch."""

import csv
import shutil
import subprocess
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pydicom.dicomio
import pytest

from model.case import EXTERNAL, Case, Prescription, Structure, VoxelGrid
from model.dicom import StructureChoice, build_case, read_study
from model.dicom.export import write_study
from model.dosimetry import dvh

REAL_STUDY = Path(__file__).resolve().parents[2] / "../shared/studies/hn-201.zip"
STUDIES = ["generated", *(["hn-201"] if REAL_STUDY.exists() else [])]
PLASTIMATCH = shutil.which("plastimatch")

# Both programs count in bins: 0.01 Gy wide (dicompyler-core), 0.5 Gy (plastimatch, made finer below).
MEAN_TOLERANCE_GY = 0.2
VOLUME_TOLERANCE_PERCENT = 1.0


@dataclass(frozen=True)
class Opened:
    """A study on disk and the case that was read from it."""

    folder: Path
    case: Case
    roi_numbers: dict[str, int]

    def file(self, modality: str) -> Path:
        return next(path for path in self.folder.rglob("*.dcm") if pydicom.dcmread(path).Modality == modality)


def generated_case() -> Case:
    grid = VoxelGrid((20, 48, 40), (3.0, 2.5, 2.5), (-50.0, -60.0, -30.0))
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    body = ((y - 23.5) / 22) ** 2 + ((x - 19.5) / 18) ** 2 < 1
    target = ((z - 9.5) / 6) ** 2 + ((y - 24) / 10) ** 2 + ((x - 18) / 9) ** 2 < 1
    organ = ((z - 9.5) / 7) ** 2 + ((y - 36) / 6) ** 2 + ((x - 22) / 8) ** 2 < 1
    dose = 60.0 * np.exp(-((((z - 9.5) / 9) ** 2 + ((y - 24) / 14) ** 2 + ((x - 18) / 13) ** 2) ** 2))
    return Case(
        hu=np.where(body, 20, -1000).astype(np.int16),
        grid=grid,
        structures={
            EXTERNAL: Structure(EXTERNAL, body, "external", EXTERNAL, 1),
            "PTV": Structure("PTV", target, "target", "PTV", 2),
            "Rectum": Structure("Rectum", organ & ~target, "oar", "Rectum", 3),
        },
        prescription=Prescription({"PTV": 60.0}, 30, "plan"),
        dose_gy=dose.astype(np.float32),
        identifier="dvh-conformance",
    )


@pytest.fixture(scope="module", params=STUDIES)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "generated":
        write_study(generated_case(), folder)
    else:
        with zipfile.ZipFile(REAL_STUDY) as archive:
            archive.extractall(folder)
    study = read_study(sorted(folder.rglob("*.dcm")))
    numbers = {roi.name: roi.number for roi in study.rois}
    kinds = {EXTERNAL: "external", **{name: "target" for name in numbers if name.startswith("PTV")}}
    choices = {name: StructureChoice(number, kinds.get(name, "oar")) for name, number in numbers.items()}
    prescription = Prescription({name: 60.0 for name, kind in kinds.items() if kind == "target"}, None, "parameter")
    return Opened(folder, build_case(study, choices, prescription, with_reference=True), numbers)


def test_agrees_with_dicompyler(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    # dicompyler-core asks for a name that pydicom 3 has dropped.
    monkeypatch.setattr(pydicom.dicomio, "read_file", pydicom.dcmread, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dicompylercore import dvhcalc

        structure_set, dose = pydicom.dcmread(opened.file("RTSTRUCT")), pydicom.dcmread(opened.file("RTDOSE"))
        for name, number in opened.roi_numbers.items():
            theirs = dvhcalc.get_dvh(structure_set, dose, number)
            ours = dvh(opened.case.dose_gy, opened.case.structures[name].mask, opened.case.grid.voxel_volume_cc)
            assert ours.mean_gy == pytest.approx(theirs.mean, abs=MEAN_TOLERANCE_GY), name
            assert ours.max_gy == pytest.approx(theirs.max, abs=MEAN_TOLERANCE_GY), name
            assert ours.volume_cc == pytest.approx(theirs.volume, rel=VOLUME_TOLERANCE_PERCENT / 100), name
            if ours.volume_cc > 2:
                assert ours.dose_at_volume_cc(2.0) == pytest.approx(theirs.D2cc.value, abs=MEAN_TOLERANCE_GY), name
            for level in (20.0, 50.0):
                share = 100 * theirs.absolute_volume(theirs.volume).volume_constraint(level, "Gy").value / theirs.volume
                assert ours.volume_percent_at(level) == pytest.approx(share, abs=VOLUME_TOLERANCE_PERCENT), name


@pytest.mark.skipif(PLASTIMATCH is None, reason="the program plastimatch is not installed")
def test_agrees_with_plastimatch(opened: Opened, tmp_path: Path) -> None:
    outputs = {
        "--output-img": "ct.nrrd",
        "--output-ss-img": "ss.nrrd",
        "--output-ss-list": "ss.txt",
        "--output-dose-img": "dose.nrrd",
    }
    options = [part for flag, name in outputs.items() for part in (flag, str(tmp_path / name))]
    directory = opened.file("RTSTRUCT").parent
    subprocess.run([PLASTIMATCH, "convert", "--input", directory, *options], check=True, capture_output=True)
    table = tmp_path / "dvh.csv"
    inputs = ["--input-ss-img", "ss.nrrd", "--input-ss-list", "ss.txt", "--input-dose", "dose.nrrd"]
    bins = ["--dose-units", "gy", "--num-bins", "1000", "--bin-width", "0.1"]
    command = [PLASTIMATCH, "dvh", *inputs, *bins, "--output-csv", table]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    levels = np.array([float(row["Dose (Gy)"]) for row in rows])
    for name in opened.roi_numbers:
        shares = np.array([float(row[name]) for row in rows])
        ours = dvh(opened.case.dose_gy, opened.case.structures[name].mask, opened.case.grid.voxel_volume_cc)
        # The area under a cumulative DVH is the mean dose.
        assert ours.mean_gy == pytest.approx(np.trapezoid(shares, levels), abs=MEAN_TOLERANCE_GY), name
        for level in (20.0, 50.0):
            share = 100 * np.interp(level, levels, shares)
            assert ours.volume_percent_at(level) == pytest.approx(share, abs=VOLUME_TOLERANCE_PERCENT), name

"""Simulated necks written as DICOM and imported again; studies that are no use for training are refused by name."""

import csv
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from model.case import EXTERNAL, Case, Volume, VoxelGrid
from model.cohort.neck import simulated_neck
from model.conditioning.head_and_neck import SITE
from model.dicom.dose_writer import set_dose
from model.dicom.export import write_study
from model.errors import DatasetError, DiffDPError
from model.training import dicom_import
from model.training.case_file import DOSE_STEP_GY, case_files, load_case
from model.training.dicom_import import LOG, import_dicom

NAME, PATIENT_ID = "Canary^Tweety", "CANARY-4711"
DOSE_TOLERANCE_GY = DOSE_STEP_GY / 2 + 70 / 2**15 / 2 + 1e-4
"""Half a step of the case file and half a step of the RTDOSE, which puts 70 Gy at the largest signed number."""


def planned(seed: int) -> Case:
    case = simulated_neck(seed, shape=(24, 60, 64), spacing_mm=(10.0, 7.0, 7.5))
    dose_gy = np.maximum(case.target_map_gy(), 20 * case.external * (1 + case.hu / 5000.0))
    return replace(case, dose_gy=dose_gy.astype(np.float32))


@pytest.fixture(scope="module")
def case() -> Case:
    return planned(8)


@pytest.fixture(scope="module")
def written(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_study(case, folder, patient_name=NAME, patient_id=PATIENT_ID)
    return folder


@pytest.fixture
def study(written: Path, tmp_path: Path) -> Path:
    """A folder of the source, to be spoilt."""
    return Path(shutil.copytree(written, tmp_path / "source" / "patient"))


def unpack(archive: Path, folder: Path) -> list[Path]:
    try:
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
    except zipfile.BadZipFile:
        raise DiffDPError("the archive is damaged", code="archive-invalid") from None
    return [path for path in folder.rglob("*") if path.is_file()]


def run(tmp_path: Path, **options: str) -> list[dict[str, str]]:
    """Import everything below ``source``; the lines of the log."""
    cases = tmp_path / "cases"
    import_dicom(tmp_path / "source", cases, SITE, unpack, lambda *_: None, **options)
    text = (cases / LOG).read_text(encoding="utf-8")
    assert "canary" not in text.lower()
    assert "tweety" not in text.lower()
    lines = list(csv.DictReader(text.splitlines()))
    imported = {f"{line['identifier']}.npz" for line in lines if line["outcome"] == "imported"}
    assert {path.name for path in cases.iterdir()} == imported | {LOG}
    return lines


def edit(path: Path, change: Callable[[Dataset], None]) -> None:
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path)


def give_dose(study: Path, case: Case, window: tuple[slice, slice, slice]) -> None:
    """Keep a part of the dose grid."""
    first = np.array([part.indices(n)[0] for part, n in zip(window, case.grid.shape, strict=True)])
    values = case.dose_gy[window]
    origin = tuple(float(x) for x in case.grid.points_mm(first))
    grid = VoxelGrid(values.shape, case.grid.spacing_mm, origin, case.grid.axes)
    edit(study / "RD.dcm", lambda dose: set_dose(dose, Volume(values, grid)))


def test_an_imported_case_is_the_one_that_was_exported(case, study, tmp_path):
    (line,) = run(tmp_path)
    assert (line["source"], line["outcome"], line["code"], line["reason"]) == ("patient", "imported", "", "")
    assert (line["warning_count"], line["warnings"]) == ("0", "")
    assert set(line["structures"].split("; ")) == set(case.structures)
    assert line["prescription"] == "PTV_7000 70 Gy, PTV_6300 63 Gy, PTV_5600 56 Gy in 35 fractions (plan)"

    (path,) = case_files(tmp_path / "cases")
    found = load_case(path)
    assert found.identifier == path.stem == line["identifier"]
    with np.load(path) as stored:
        assert b"canary" not in stored["description"].tobytes().lower()
    assert found.grid.same_as(case.grid)
    np.testing.assert_array_equal(found.hu, case.hu)
    np.testing.assert_allclose(found.dose_gy, case.dose_gy, atol=DOSE_TOLERANCE_GY)
    assert found.prescription.dose_gy == case.prescription.dose_gy
    assert found.prescription.fractions == case.prescription.fractions
    assert found.beams == case.beams
    assert found.structures.keys() == case.structures.keys()
    for name, structure in case.structures.items():
        assert found.structures[name].kind == structure.kind
        np.testing.assert_array_equal(found.structures[name].mask, structure.mask)


def test_a_study_without_a_plan_takes_its_prescription_from_the_names(case, study, tmp_path):
    (study / "RP.dcm").unlink()
    (line,) = run(tmp_path)
    assert line["prescription"] == "PTV_7000 70 Gy, PTV_6300 63 Gy, PTV_5600 56 Gy (structure-name)"
    assert load_case(case_files(tmp_path / "cases")[0]).beams == ()


def test_pseudonyms_are_stable_and_depend_on_the_salt(study, tmp_path):
    first = run(tmp_path)
    study.rename(tmp_path / "source" / "elsewhere")
    assert run(tmp_path)[0]["identifier"] == first[0]["identifier"]
    shutil.rmtree(tmp_path / "cases")
    assert run(tmp_path, salt="pepper")[0]["identifier"] != first[0]["identifier"]


def test_beyond_the_dose_grid_nothing_counts(case, study, tmp_path):
    with_target = np.flatnonzero((case.target_map_gy() > 0).any(axis=(1, 2)))
    kept = slice(int(with_target[0]) - 1, int(with_target[-1]) + 2)
    assert case.external[: kept.start].any()
    assert case.external[kept.stop :].any()
    give_dose(study, case, (kept, slice(None), slice(None)))
    (line,) = run(tmp_path)
    found = load_case(case_files(tmp_path / "cases")[0])
    share = 1 - found.external.sum() / case.external.sum()
    assert line["warnings"] == f"the dose grid leaves out {share:.1%} of the outline, which does not count"
    # Rounding decides whether the outermost slices of the dose, which lie on slices of the CT, are in or out
    inner = slice(kept.start + 1, kept.stop - 1)
    for name, structure in found.structures.items():
        np.testing.assert_array_equal(structure.mask[inner], case.structures[name].mask[inner])
        assert not structure.mask[: kept.start].any()
        assert not structure.mask[kept.stop :].any()
    np.testing.assert_allclose(found.dose_gy[found.external], case.dose_gy[found.external], atol=DOSE_TOLERANCE_GY)
    np.testing.assert_array_equal(found.hu, case.hu)


@pytest.mark.parametrize("turned", [(0.4, -0.3, 0.7), (-0.5, 0.5, 0.5)])
def test_where_grids_differ_what_counts_is_exactly_what_is_known(case, study, tmp_path, turned):
    """A constant dose on a shifted grid: every voxel that counts must have it."""
    constant = replace(case, dose_gy=np.full(case.grid.shape, 70.0, np.float32))

    def shift(dose: Dataset) -> None:
        set_dose(dose, Volume(constant.dose_gy, case.grid))
        # (z, y, x) voxels
        moved = case.grid.points_mm(np.array(turned))
        dose.ImagePositionPatient = [f"{x:.4f}" for x in moved]

    edit(study / "RD.dcm", shift)
    run(tmp_path)
    found = load_case(case_files(tmp_path / "cases")[0])
    np.testing.assert_allclose(found.dose_gy[found.external], 70.0, atol=DOSE_TOLERANCE_GY)
    assert 0 < found.external.sum() < case.external.sum()


def set_on_dose(**attributes: object) -> Callable[[Path, Case], None]:
    def spoil(study: Path, case: Case) -> None:
        def change(dose: Dataset) -> None:
            for keyword, value in attributes.items():
                setattr(dose, keyword, value)

        edit(study / "RD.dcm", change)

    return spoil


def without_dose(study: Path, case: Case) -> None:
    (study / "RD.dcm").unlink()


def two_doses(study: Path, case: Case) -> None:
    second = dcmread(study / "RD.dcm")
    second.SOPInstanceUID = generate_uid()
    second.save_as(study / "RD2.dcm")


def dose_of_another_plan(study: Path, case: Case) -> None:
    def change(dose: Dataset) -> None:
        dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID = generate_uid()

    edit(study / "RD.dcm", change)


def target_cut_off(study: Path, case: Case) -> None:
    rows = np.flatnonzero((case.target_map_gy() > 0).any(axis=(0, 2)))
    give_dose(study, case, (slice(None), slice(int(rows[0]) + 1, None), slice(None)))


def side_cut_off(study: Path, case: Case) -> None:
    columns = np.flatnonzero((case.target_map_gy() > 0).any(axis=(0, 1)))
    give_dose(study, case, (slice(None), slice(None), slice(int(columns[0]), int(columns[-1]) + 1)))


def scaled(factor: float) -> Callable[[Path, Case], None]:
    def spoil(study: Path, case: Case) -> None:
        dose = case.dose_gy * np.float32(factor)
        edit(study / "RD.dcm", lambda dataset: set_dose(dataset, Volume(dose, case.grid)))

    return spoil


def hot_voxel(study: Path, case: Case) -> None:
    dose = case.dose_gy.copy()
    dose[0, 0, 0] = 900.0
    edit(study / "RD.dcm", lambda dataset: set_dose(dataset, Volume(dose, case.grid)))


def rename(prefix: str, new: str, kind: str) -> Callable[[Path, Case], None]:
    """Rename all ROIs that begin so, and take the plan away."""

    def spoil(study: Path, case: Case) -> None:
        def change(structure_set: Dataset) -> None:
            pairs = zip(structure_set.StructureSetROISequence, structure_set.RTROIObservationsSequence, strict=True)
            for number, (roi, observation) in enumerate(pairs):
                if roi.ROIName.startswith(prefix):
                    roi.ROIName = f"{new} {chr(ord('a') + number)}"
                    observation.RTROIInterpretedType = kind

        edit(study / "RS.dcm", change)
        (study / "RP.dcm").unlink()

    return spoil


def missing_slice(study: Path, case: Case) -> None:
    (study / "CT.010.dcm").unlink()


def other_patient(study: Path, case: Case) -> None:
    edit(study / "RS.dcm", lambda structure_set: setattr(structure_set, "PatientID", "CANARY-0815"))


REFUSALS = {
    "no dose": (without_dose, "no-reference-dose"),
    "dose of one beam": (set_on_dose(DoseSummationType="BEAM"), "no-reference-dose"),
    "relative dose": (set_on_dose(DoseUnits="RELATIVE"), "no-reference-dose"),
    "dose in another frame": (set_on_dose(FrameOfReferenceUID="1.2.3"), "no-reference-dose"),
    "two doses": (two_doses, "no-reference-dose"),
    "effective dose": (set_on_dose(DoseType="EFFECTIVE"), "dose-not-physical"),
    "dose of no type": (set_on_dose(DoseType=None), "dose-not-physical"),
    "dose of another plan": (dose_of_another_plan, "dose-of-another-plan"),
    "dose of no plan": (set_on_dose(ReferencedRTPlanSequence=None), "dose-of-another-plan"),
    "dose elsewhere": (set_on_dose(ImagePositionPatient=[2000, 0, 0]), "dose-outside"),
    "dose without position": (set_on_dose(ImagePositionPatient=None), "dose-unreadable"),
    "target cut off": (target_cut_off, "dose-grid-too-small"),
    "side cut off": (side_cut_off, "dose-grid-too-small"),
    "dose of one fraction": (scaled(1 / 35), "dose-unlike-prescription"),
    "dose of two courses": (scaled(2), "dose-unlike-prescription"),
    "hot voxel": (hot_voxel, "case-not-storable"),
    "no prescription": (rename("PTV", "PTV", "PTV"), "prescription-missing"),
    "no target": (rename("PTV", "Volume", "ORGAN"), "no-target"),
    "another site": (rename("", "Thing", "ORGAN"), "site-unknown"),
    "missing slice": (missing_slice, "missing-slice"),
    "another patient's structures": (other_patient, "patient-mismatch"),
}


@pytest.mark.parametrize(("spoil", "code"), REFUSALS.values(), ids=REFUSALS)
def test_a_study_is_refused_by_name(case, study, tmp_path, spoil, code):
    spoil(study, case)
    (line,) = run(tmp_path)
    assert (line["outcome"], line["code"]) == ("refused", code)
    assert line["reason"]


def test_a_damaged_file_has_a_line_of_its_own(study, tmp_path):
    whole = (study / "RD.dcm").read_bytes()
    (study / "RD.dcm").write_bytes(whole[: whole.index(b"PHYSICAL") + 3])
    lines = {line["source"]: line["code"] for line in run(tmp_path)}
    assert lines == {"patient": "no-reference-dose", "patient/RD.dcm": "damaged-file"}


def test_what_breaks_the_reader_does_not_break_the_import(study, tmp_path, monkeypatch):
    write_study(planned(9), tmp_path / "source" / "second", patient_name=NAME, patient_id="CANARY-2")
    working = dicom_import.build_case
    calls = []

    def broken_once(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyError(NAME)
        return working(*arguments, **options)

    monkeypatch.setattr(dicom_import, "build_case", broken_once)
    lines = run(tmp_path)
    assert [line["code"] for line in lines] == ["study-unreadable", ""]
    assert "KeyError" in lines[0]["reason"]


def test_a_full_disk_stops_the_import(study, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dicom_import, "save_case", full)
    with pytest.raises(OSError, match="No space"):
        run(tmp_path)
    assert [path.name for path in (tmp_path / "cases").iterdir()] == [f"{LOG}.part"]


def scatter(study: Path, source: Path, prefix: str, place: Callable[[str], str]) -> None:
    for path in study.iterdir():
        target = source / place(path.name) / f"{prefix}{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def by_series(name: str) -> str:
    return name[:2]


def split_series(name: str) -> str:
    """A series over several folders, as on a medium with a DICOMDIR."""
    return f"{name.split('.')[1][-1]}" if name.startswith("CT") else "rest"


@pytest.mark.parametrize("place", [lambda _: "", by_series, split_series], ids=["flat", "series", "split"])
@pytest.mark.parametrize("mixed", [True, False])
def test_files_find_together_however_they_are_laid_out(written, tmp_path, place, mixed):
    write_study(planned(9), tmp_path / "other", patient_name=NAME, patient_id="CANARY-2")
    source = tmp_path / "source"
    scatter(written, source, "a", lambda name: f"clinic/{'' if mixed else 'one'}/{place(name)}")
    scatter(tmp_path / "other", source, "b", lambda name: f"clinic/{'' if mixed else 'two'}/{place(name)}")
    (source / "read me.txt").write_text("nothing")
    lines = run(tmp_path)
    assert [line["outcome"] for line in lines] == ["imported", "imported"]
    assert {line["source"] for line in lines} == ({"clinic"} if mixed else {"clinic/one", "clinic/two"})
    assert len(case_files(tmp_path / "cases")) == 2


def test_archives_hold_studies_and_the_second_copy_is_refused(written, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(written, source / "b")
    shutil.copytree(written, source / "c")
    (source / "deep").mkdir()
    write_study(planned(9), tmp_path / "other", patient_name=NAME, patient_id="CANARY-2")
    for name, folders in {"deep/one.zip": ["written"], "deep/Two.ZIP": ["other", "written"]}.items():
        with zipfile.ZipFile(source / name, "w") as archive:
            for folder in folders:
                root = written if folder == "written" else tmp_path / "other"
                for path in root.iterdir():
                    archive.write(path, f"{folder}/{path.name}")
    (source / "broken.zip").write_bytes(b"PK\3\4")
    with zipfile.ZipFile(source / "text.zip", "w") as archive:
        archive.writestr("a.txt", "nothing")
    lines = [(line["source"], line["code"]) for line in run(tmp_path)]
    assert lines == [
        ("b", ""),
        ("c", "duplicate-case"),
        ("broken.zip", "archive-invalid"),
        ("deep/Two.ZIP", ""),
        ("deep/Two.ZIP", "duplicate-case"),
        ("deep/one.zip", "duplicate-case"),
        ("text.zip", "nothing-readable"),
    ]


def test_a_repetition_overwrites(study, tmp_path):
    lines = run(tmp_path)
    path = tmp_path / "cases" / f"{lines[0]['identifier']}.npz"
    path.write_bytes(b"old")
    assert run(tmp_path) == lines
    assert EXTERNAL in load_case(path).structures


def test_progress_is_told_and_other_files_are_counted(study, tmp_path):
    (tmp_path / "source" / "notes.txt").write_text("nothing")
    told = []
    result = import_dicom(tmp_path / "source", tmp_path / "cases", SITE, unpack, lambda *news: told.append(news))
    assert (len(result.outcomes), result.other_count) == (1, 1)
    assert told[0] == ("headers", 1, 28)
    assert told[-2:] == [("headers", 28, 28), ("studies", 1, 1)]


def test_a_source_without_studies_is_an_error(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "notes.txt").write_text("nothing")
    with pytest.raises(DatasetError, match="no DICOM file"):
        run(tmp_path)
    assert not (tmp_path / "cases").exists()

"""Files of many studies find together by what their headers say."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import MRImageStorage, generate_uid

from model.dicom import read_study
from model.dicom.collection import collect_studies
from model.dicom.pseudonym import pseudonym


@pytest.fixture
def second(study, tmp_path):
    """A whole study of another patient: the class of the fixture, with a structure set, a plan and a dose."""
    other = type(study)(tmp_path / "second")
    other.add_ct()
    other.add_structure_set([(1, "PTV", "PTV", [])])
    other.add_plan()
    other.add_dose(np.zeros((6, 8, 10)))
    for dataset in everything(other):
        dataset.PatientID = "P2"
        dataset.StudyInstanceUID = "1.2.2"
    return other


@pytest.fixture
def first(study):
    study.add_plan()
    study.add_dose(np.zeros((6, 8, 10)))
    for dataset in everything(study):
        dataset.StudyInstanceUID = "1.2.1"
    return study


def everything(study) -> list[Dataset]:
    return study.ct + study.structure_sets + study.plans + study.doses + study.others


def collected(*studies) -> list[list[str]]:
    """Groups of files, each with its folder's name."""
    paths = [path for study in studies for path in study.write()]
    collection = collect_studies(reversed(paths), lambda *_: None)
    assert not collection.damaged
    return [[f"{path.parent.name}/{path.name}" for path in files] for files in collection.studies]


def names(study) -> list[str]:
    return [f"{study.folder.name}/{number:03d}" for number in range(len(everything(study)))]


def test_whole_studies_fall_apart(first, second) -> None:
    assert collected(second, first) == [names(second), names(first)]


def test_objects_without_a_frame_follow_their_references_or_their_study(first, second) -> None:
    for study in (first, second):
        del study.plans[0].FrameOfReferenceUID
        del study.plans[0].StudyInstanceUID
        study.structure_set.ReferencedFrameOfReferenceSequence = []
        for roi in study.structure_set.StructureSetROISequence:
            del roi.ReferencedFrameOfReferenceUID
    assert collected(first, second) == [names(second), names(first)]


def test_what_names_a_frame_that_no_ct_has_goes_with_the_ct_of_its_study(first, second) -> None:
    image = first.new(MRImageStorage, "MR")
    image.FrameOfReferenceUID = generate_uid()
    image.StudyInstanceUID = "1.2.1"
    first.others.append(image)
    assert collected(first, second) == [names(second), names(first)]
    image.StudyInstanceUID = "1.2.3"
    groups = collected(first, second)
    assert len(groups) == 3
    assert [names(first)[-1]] in groups


def test_a_patient_with_two_cts_has_two_studies(first, second) -> None:
    for dataset in everything(second):
        dataset.PatientID = "P1"
        dataset.StudyInstanceUID = "1.2.1"
    assert collected(first, second) == [names(second), names(first)]


def test_a_structure_set_of_two_frames_goes_with_both(first, second) -> None:
    frame = Dataset()
    frame.FrameOfReferenceUID = second.frame_of_reference
    first.structure_set.ReferencedFrameOfReferenceSequence.append(frame)
    groups = collected(first, second)
    structure_set = names(first)[len(first.ct)]
    assert [structure_set in group for group in groups] == [True, True]


@pytest.mark.parametrize("shared", [True, False])
def test_a_dose_of_another_patient_stays_with_its_ct_unless_the_frame_is_shared(first, second, shared) -> None:
    first.doses[0].PatientID = "P3"
    if not shared:
        assert collected(first, second) == [names(second), names(first)]
        return
    for dataset in everything(second):
        dataset.FrameOfReferenceUID = first.frame_of_reference
    reference = second.structure_set.ReferencedFrameOfReferenceSequence[0]
    reference.FrameOfReferenceUID = first.frame_of_reference
    for roi in second.structure_set.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = first.frame_of_reference
    groups = collected(first, second)
    assert groups == [names(second), names(first)[:-1], names(first)[-1:]]


def test_without_identifiers_the_folder_holds_together(first, second) -> None:
    for dataset in everything(first) + everything(second):
        for keyword in ("FrameOfReferenceUID", "StudyInstanceUID", "SOPInstanceUID", "ReferencedStructureSetSequence"):
            if keyword in dataset:
                dataset[keyword].value = None if keyword.endswith("Sequence") else "0"
    for study in (first, second):
        study.structure_set.ReferencedFrameOfReferenceSequence = []
        for roi in study.structure_set.StructureSetROISequence:
            del roi.ReferencedFrameOfReferenceUID
    assert collected(first, second) == [names(second), names(first)]


def test_copies_are_kept_apart(first, tmp_path) -> None:
    paths = first.write()
    copies = [tmp_path / "then" / path.name for path in paths[2:]]
    copies[0].parent.mkdir()
    for path, copy in zip(paths[2:], copies, strict=True):
        copy.write_bytes(path.read_bytes())
    collection = collect_studies([*copies, *paths], lambda *_: None)
    assert collection.studies == (tuple(paths), tuple(copies))


def test_damaged_and_other_files_are_told(first) -> None:
    paths = first.write()
    whole = paths[-1].read_bytes()
    paths[-1].write_bytes(whole[: whole.index(b"PHYSICAL") + 3])
    other = first.folder / "notes.txt"
    other.write_text("nothing")
    told: list[tuple[int, int]] = []
    collection = collect_studies([*paths, other], lambda *news: told.append(news))
    assert collection.studies == (tuple(paths[:-1]),)
    assert {path: error.rule for path, error in collection.damaged.items()} == {paths[-1]: "damaged-file"}
    assert collection.other_count == 1
    assert told[-1] == (len(paths) + 1, len(paths) + 1)


def test_pseudonyms_tell_studies_apart_and_nothing_else(first, tmp_path) -> None:
    def name(folder: Path, salt: str = "") -> str:
        return pseudonym(read_study([path for path in folder.iterdir() if path.is_file()]), salt)

    first.write()
    plain = name(first.folder)
    assert len(plain) == 16
    assert set(plain) <= set("0123456789abcdef")
    assert name(first.folder, "a") not in {plain, name(first.folder, "b")}
    for keyword, value, same in [
        ("PatientName", "Doe^Jane", True),
        ("SeriesDescription", "thin", True),
        ("PatientID", "P9", False),
        ("StudyInstanceUID", "1.2.9", False),
    ]:
        changed = tmp_path / keyword
        changed.mkdir()
        for path in first.folder.iterdir():
            dataset = dcmread(path)
            setattr(dataset, keyword, value)
            dataset.save_as(changed / path.name)
        assert (name(changed) == plain) is same

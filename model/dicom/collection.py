"""Which of many DICOM files make up one study.

Folders say little: one clinic exports a folder per patient, another one per series, a third everything into one. What
a CT shares with its structure set, plan and dose, and with no other CT of the patient, is its Frame of Reference UID
(0020,0052). So files belong together that

1. name the frame of reference of the same CT; a structure set names that of its ROIs. What names none, or one that no
   CT has, goes with the structure set that it refers to, else with the CT of its Study Instance UID (0020,000D) if
   that has one frame of reference, else with what has the same frame of reference, study or, without either, folder.
2. have the same Patient ID (0010,0020), but only where CT images of several patients share a frame of reference, as
   careless pseudonymisation leaves them: a dose may bear another identifier than its CT.
3. are the same copy: a file whose SOP Instance UID (0008,0018) came before belongs to a second study.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import CTImageStorage, RTStructureSetStorage

from model.dicom.attributes import items, text, uid
from model.dicom.files import DicomFile, read_file, reading
from model.dicom.structure_set import read_references
from model.errors import StudyError

Place = tuple[str, str]
"""What holds files together, and its UID or name."""


@dataclass(frozen=True)
class Collection:
    """Files sorted into studies.

    Parameters
    ----------
    studies
        Files of each study, in the order of their paths, as are the studies.
    damaged
        Files that begin as DICOM but cannot be read, and why; nobody knows to which study they belong.
    other_count
        How many files are no DICOM objects.
    """

    studies: tuple[tuple[Path, ...], ...]
    damaged: Mapping[Path, StudyError]
    other_count: int


@dataclass(frozen=True)
class _Object:
    path: Path
    is_ct: bool
    instance: str
    patient_id: str
    study: str
    frames: frozenset[str]
    structure_sets: frozenset[str]


def collect_studies(paths: Iterable[Path], progress: Callable[[int, int], None]) -> Collection:
    """Read the headers of files and sort them into studies.

    Parameters
    ----------
    paths
        Files of any kind, of any number of patients.
    progress
        Called with the number of files read and their total.
    """
    ordered = sorted(paths)
    objects: list[_Object] = []
    damaged: dict[Path, StudyError] = {}
    for count, path in enumerate(ordered, start=1):
        try:
            with reading("a DICOM file"):
                file = read_file(path, pixels=False)
                objects += [_describe(file)] if file else []
        except StudyError as error:
            damaged[path] = error
        progress(count, len(ordered))
    groups = [
        tuple(sorted(member.path for member in copy))
        for shared in _by_place(objects)
        for patient in _by_patient(shared)
        for copy in _by_copy(patient)
    ]
    return Collection(tuple(sorted(groups)), damaged, len(ordered) - len(objects) - len(damaged))


def _describe(file: DicomFile) -> _Object:
    header = file.header
    frames = frozenset({uid(header, "FrameOfReferenceUID")} - {""})
    if file.sop_class == RTStructureSetStorage:
        frames = read_references(header).frames_of_reference
    structure_sets = {uid(item, "ReferencedSOPInstanceUID") for item in items(header, "ReferencedStructureSetSequence")}
    return _Object(
        path=file.path,
        is_ct=file.sop_class == CTImageStorage,
        instance=uid(header, "SOPInstanceUID"),
        patient_id=text(header, "PatientID"),
        study=uid(header, "StudyInstanceUID"),
        frames=frames,
        structure_sets=frozenset(structure_sets - {""}),
    )


def _by_place(objects: Sequence[_Object]) -> Iterable[list[_Object]]:
    frames_of_study: dict[str, set[str]] = defaultdict(set)
    for ct in objects:
        if ct.is_ct:
            frames_of_study[ct.study] |= ct.frames
    ct_frames = set().union(*frames_of_study.values())

    placed: dict[Place, list[_Object]] = defaultdict(list)
    place_of_instance: dict[str, Place] = {}
    # What refers to a structure set comes after it
    for member in sorted(objects, key=lambda o: len(o.structure_sets)):
        known = sorted(s for s in member.structure_sets if s in place_of_instance)
        of_study = frames_of_study[member.study] if member.study else set()
        places: list[Place] = [("frame", frame) for frame in sorted(member.frames & ct_frames)]
        if not places and known:
            places = [place_of_instance[known[0]]]
        if not places and len(of_study) == 1:
            places = [("frame", min(of_study))]
        if not places:
            places = [
                ("frame", min(member.frames)) if member.frames
                else ("study", member.study) if member.study
                else ("folder", str(member.path.parent))
            ]  # fmt: skip
        place_of_instance[member.instance] = places[0]
        for place in places:
            placed[place].append(member)
    return placed.values()


def _by_patient(members: Sequence[_Object]) -> Iterable[list[_Object]]:
    if len({member.patient_id for member in members if member.is_ct} - {""}) <= 1:
        return [list(members)]
    patients: dict[str, list[_Object]] = defaultdict(list)
    for member in members:
        patients[member.patient_id].append(member)
    return patients.values()


def _by_copy(members: Sequence[_Object]) -> Iterable[list[_Object]]:
    seen: Counter[str] = Counter()
    copies: dict[int, list[_Object]] = defaultdict(list)
    for member in members:
        copies[seen[member.instance]].append(member)
        if member.instance:
            seen[member.instance] += 1
    return copies.values()

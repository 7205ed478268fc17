"""What of a study belongs together: the CT series, its structure set, plan and dose."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    RTDoseStorage,
    RTPlanStorage,
    RTStructureSetStorage,
)

from model.dicom.attributes import date_time, items, text, uid
from model.dicom.ct import CtSeries
from model.dicom.files import DicomFile, read_headers
from model.dicom.plan import PlanSummary
from model.dicom.rules import Rule, refuse
from model.dicom.structure_set import read_references
from model.errors import StudyError

IMAGE_MODALITIES = {"CR", "DX", "MR", "NM", "OT", "PT", "RF", "RTIMAGE", "SC", "US", "XA"}
"""Values of Modality (0008,0060) that tell a user who sent images that they are not CT."""

MULTI_FRAME_CT = "multi-frame CT"
MULTI_FRAME_CT_CLASSES = {EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}


class _Fit(IntEnum):
    """How well a structure set fits a CT series."""

    OTHER_PATIENT = auto()
    OTHER_FRAME = auto()
    UNVERIFIED = auto()
    SAME_FRAME = auto()
    REFERENCED = auto()


@dataclass(frozen=True)
class SortedFiles:
    """Files of a study by what they are."""

    ct: tuple[DicomFile, ...]
    structure_sets: tuple[Dataset, ...]
    plans: tuple[Dataset, ...]
    doses: tuple[DicomFile, ...]


def sort_files(paths: Sequence[Path], warnings: list[str]) -> SortedFiles:
    """Sort files by SOP class, whatever Modality (0008,0060) says; but a CT image must not claim another modality."""
    files, other_count = read_headers(paths)
    if other_count:
        warnings.append(f"files that are no DICOM objects were left out: {other_count}")
    used: dict[str, list[DicomFile]] = {
        CTImageStorage: [],
        RTStructureSetStorage: [],
        RTPlanStorage: [],
        RTDoseStorage: [],
    }
    left_out: Counter[str] = Counter()
    for file in files:
        modality = text(file.header, "Modality")
        if file.sop_class in MULTI_FRAME_CT_CLASSES:
            left_out[MULTI_FRAME_CT] += 1
        elif file.sop_class == CTImageStorage and "LOCALIZER" in text(file.header, "ImageType").upper():
            left_out["localiser"] += 1
        elif file.sop_class not in used or (file.sop_class == CTImageStorage and modality not in {"CT", ""}):
            left_out[modality if modality.isalpha() and modality.isupper() else "other"] += 1
        else:
            used[file.sop_class].append(file)
    if not used[CTImageStorage]:
        raise _no_ct(left_out + Counter({UID(kind).name: len(files) for kind, files in used.items()}))
    if left_out:
        warnings.append(f"objects that are not needed were left out: {_listed(left_out)}")
    structure_sets, plans, doses = (
        _without_copies(used[kind], warnings) for kind in (RTStructureSetStorage, RTPlanStorage, RTDoseStorage)
    )
    return SortedFiles(
        ct=tuple(used[CTImageStorage]),
        structure_sets=tuple(file.header for file in structure_sets),
        plans=tuple(file.header for file in plans),
        doses=tuple(doses),
    )


def _without_copies(files: Sequence[DicomFile], warnings: list[str]) -> list[DicomFile]:
    """Leave out what came twice, byte by byte, as in exports that were joined: there is nothing to choose."""
    names = [uid(file.header, "SOPInstanceUID") for file in files]
    repeated = {name for name, count in Counter(names).items() if name and count > 1}
    digests: set[bytes] = set()
    kept = []
    for file, name in zip(files, names, strict=True):
        if name in repeated:
            with file.path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").digest()
            if digest in digests:
                continue
            digests.add(digest)
        kept.append(file)
    if len(kept) < len(files):
        warnings.append(f"copies of the same {UID(files[0].sop_class).name} were left out: {len(files) - len(kept)}")
    return kept


def _listed(objects: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(objects.items()))


def _no_ct(found: Counter[str]) -> StudyError:
    """Return the refusal that says most about a study without a usable CT."""
    if MULTI_FRAME_CT in found:
        rule = Rule.MULTI_FRAME_CT
    elif IMAGE_MODALITIES & set(found):
        rule = Rule.UNSUPPORTED_MODALITY
    else:
        rule = Rule.NO_CT
    return refuse(rule, f"expected CT images of one slice each, found {_listed(found)}", found=dict(found))


def _fit(series: CtSeries, structure_set: Dataset) -> _Fit:
    patient_id = text(structure_set, "PatientID")
    if patient_id and series.patient_id and patient_id != series.patient_id:
        return _Fit.OTHER_PATIENT
    references = read_references(structure_set)
    known = bool(series.frame_of_reference and references.frames_of_reference)
    if known and series.frame_of_reference not in references.frames_of_reference:
        return _Fit.OTHER_FRAME
    if (series.uid and series.uid in references.images_by_series) or any(
        series.image_uids & images for images in references.images_by_series.values()
    ):
        return _Fit.REFERENCED
    return _Fit.SAME_FRAME if known else _Fit.UNVERIFIED


def named_series(all_series: Sequence[CtSeries], series_uid: str | None) -> Sequence[CtSeries]:
    """Return the CT series that the caller names, all if none is named.

    Raises
    ------
    StudyError
        ``unknown-ct-series`` if there is none of this UID.
    """
    found = [series for series in all_series if series_uid in {series.uid, None}]
    if not found:
        known = sorted(series.uid for series in all_series)
        raise refuse(
            Rule.UNKNOWN_CT_SERIES,
            f"no CT series has the UID that the parameter 'ct_series' names; found {_names(known)}",
            series=known,
        )
    return found


def _named_structure_sets(structure_sets: Sequence[Dataset], instance_uid: str | None) -> list[Dataset]:
    found = [
        structure_set
        for structure_set in structure_sets
        if instance_uid in {uid(structure_set, "SOPInstanceUID"), None}
    ]
    if not found:
        known = _instance_uids(structure_sets)
        raise refuse(
            Rule.UNKNOWN_STRUCTURE_SET,
            f"no structure set has the UID that the parameter 'structure_set' names; found {_names(known)}",
            structure_sets=known,
        )
    return found


def _instance_uids(datasets: Sequence[Dataset]) -> list[str]:
    return sorted(uid(dataset, "SOPInstanceUID") for dataset in datasets)


def _names(uids: Sequence[str]) -> str:
    return ", ".join(name or "one without a UID" for name in uids)


def pair_ct_with_structure_set(
    all_series: Sequence[CtSeries],
    files: SortedFiles,
    warnings: list[str],
    *,
    ct_series: str | None = None,
    structure_set: str | None = None,
) -> tuple[CtSeries, Dataset]:
    """Choose the structure set that fits a CT series, and the series that it was drawn on.

    Parameters
    ----------
    all_series, files
        Of the study.
    warnings
        Receives what was chosen where there was a choice.
    ct_series, structure_set
        UIDs that the caller names; the choice is then between what has them.
    """
    candidates = named_series(all_series, ct_series)
    sets = _named_structure_sets(files.structure_sets, structure_set)
    series, chosen, reasons = _pair(candidates, sets, files.plans, warnings)
    if len(all_series) > 1:
        reason = "the parameter 'ct_series' names it" if ct_series else reasons[0]
        others = sorted(other.uid for other in all_series if other is not series)
        warnings.append(_choice("CT series", series.uid, reason, others))
    if len(files.structure_sets) > 1:
        reason = "the parameter 'structure_set' names it" if structure_set else reasons[1]
        others = _instance_uids([other for other in files.structure_sets if other is not chosen])
        warnings.append(_choice("structure sets", uid(chosen, "SOPInstanceUID"), reason, others))
    return series, chosen


def _choice(kind: str, chosen: str, reason: str, others: Sequence[str]) -> str:
    return f"of {len(others) + 1} {kind} {_names([chosen])} was used, because {reason}; not used: {_names(others)}"


def _pair(
    all_series: Sequence[CtSeries], structure_sets: Sequence[Dataset], plans: Sequence[Dataset], warnings: list[str]
) -> tuple[CtSeries, Dataset, tuple[str, str]]:
    """Choose a series and a structure set and say why."""
    fits = [[_fit(series, structure_set) for series in all_series] for structure_set in structure_sets]
    best = [max(row) for row in fits]
    if max(best) == _Fit.OTHER_PATIENT:
        raise refuse(
            Rule.PATIENT_MISMATCH,
            "CT and structure set have different patient identifiers (0010,0020)",
            structure_sets=_instance_uids(structure_sets),
        )
    if max(best) == _Fit.OTHER_FRAME:
        raise refuse(
            Rule.FRAME_OF_REFERENCE_MISMATCH,
            "the structure set belongs to another frame of reference than the CT",
            ct=sorted(series.frame_of_reference for series in all_series),
            structure_sets=_instance_uids(structure_sets),
        )
    # One that names the CT's frame of reference before those that name none
    floor = min(max(best), _Fit.SAME_FRAME)
    fitting = [k for k, fit in enumerate(best) if fit >= floor]
    index, why = _choose_structure_set([structure_sets[k] for k in fitting], plans)
    chosen = fitting[index]
    matching = [series for series, fit in zip(all_series, fits[chosen], strict=True) if fit == best[chosen]]
    if len(matching) > 1:
        raise refuse(
            Rule.SEVERAL_CT_SERIES,
            f"{len(matching)} of {len(all_series)} CT series fit the structure set equally well, expected one: say "
            f"which with the parameter 'ct_series'; found {_names(sorted(series.uid for series in matching))}",
            series=sorted(series.uid for series in matching),
        )
    if best[chosen] == _Fit.UNVERIFIED:
        warnings.append("frame of reference missing: that the structure set belongs to the CT could not be verified")
    if best[chosen] == _Fit.SAME_FRAME and read_references(structure_sets[chosen]).images_by_series:
        warnings.append("the contours were drawn on another series of the CT's frame of reference")
    referenced = best[chosen] == _Fit.REFERENCED
    why_series = "the structure set refers to it" if referenced else "it alone fits the structure set"
    return matching[0], structure_sets[chosen], (why_series, why)


def _choose_structure_set(candidates: Sequence[Dataset], plans: Sequence[Dataset]) -> tuple[int, str]:
    """Of several structure sets take the one that the plans refer to, else the newest; say why."""
    if len(candidates) == 1:
        return 0, "it alone fits the CT"
    planned = set().union(*(_structure_set_uids(plan) for plan in plans))
    by_plan = [k for k, candidate in enumerate(candidates) if uid(candidate, "SOPInstanceUID") in planned]
    if len(by_plan) == 1:
        return by_plan[0], "the plan refers to it"
    dates = [date_time(candidate, "StructureSetDate", "StructureSetTime") for candidate in candidates]
    if dates.count(max(dates)) > 1:
        known = _instance_uids(candidates)
        raise refuse(
            Rule.SEVERAL_STRUCTURE_SETS,
            f"{len(candidates)} structure sets fit the CT and {dates.count(max(dates))} have the same date, expected "
            f"one: say which with the parameter 'structure_set'; found {_names(known)}",
            structure_sets=known,
        )
    return dates.index(max(dates)), "it is the newest"


def absent_images(series: CtSeries, structure_set: Dataset) -> frozenset[str]:
    """SOP Instance UIDs of the CT series' images that the structure set lists and that did not come."""
    listed = read_references(structure_set).images_by_series.get(series.uid, frozenset())
    # A list without any of the images that came was not made for them
    return listed - series.image_uids if listed & series.image_uids else frozenset()


def _structure_set_uids(plan: Dataset) -> set[str]:
    return {uid(item, "ReferencedSOPInstanceUID") for item in items(plan, "ReferencedStructureSetSequence")} - {""}


def refers_to(plan: Dataset, structure_set: Dataset) -> bool:
    """Whether a plan names the structure set, or none at all."""
    named = _structure_set_uids(plan)
    return not named or uid(structure_set, "SOPInstanceUID") in named


def choose_plan(
    plans: Sequence[Dataset], structure_set: Dataset, series: CtSeries, warnings: list[str]
) -> Dataset | None:
    """Take the newest plan of this patient and structure set, else of this patient and frame of reference."""
    fitting = [plan for plan in plans if _plan_fits(plan, structure_set, series)]
    if len(fitting) < len(plans):
        warnings.append(
            f"plans that belong to another patient or frame of reference and were left out: {len(plans) - len(fitting)}"
        )
    fitting = [plan for plan in fitting if refers_to(plan, structure_set)] or fitting
    if not fitting:
        return None
    dates = [date_time(plan, "RTPlanDate", "RTPlanTime") for plan in fitting]
    if dates.count(max(dates)) > 1:
        warnings.append(f"{dates.count(max(dates))} plans have the same date: none was used")
        return None
    if len(fitting) > 1:
        warnings.append(f"of {len(fitting)} plans the newest was used")
    return fitting[dates.index(max(dates))]


def _plan_fits(plan: Dataset, structure_set: Dataset, series: CtSeries) -> bool:
    patients = {text(plan, "PatientID"), text(structure_set, "PatientID"), series.patient_id} - {""}
    frames = {uid(plan, "FrameOfReferenceUID"), series.frame_of_reference}
    if len(patients) > 1 or len(frames - {""}) > 1:
        return False
    # Without the structure set as a link, both frames of reference must be known
    return "" not in frames or refers_to(plan, structure_set)


def choose_dose(
    doses: Sequence[DicomFile], plan: PlanSummary | None, series: CtSeries, warnings: list[str]
) -> Path | None:
    """Take the one dose of the whole plan in the CT's frame of reference; none if that is not clear."""
    fitting = [
        dose
        for dose in doses
        if text(dose.header, "DoseSummationType") == "PLAN"
        and text(dose.header, "DoseUnits") == "GY"
        and series.frame_of_reference
        and uid(dose.header, "FrameOfReferenceUID") == series.frame_of_reference
    ]
    if plan is not None:
        of_plan = [
            dose
            for dose in fitting
            if plan.sop_instance_uid
            in {uid(item, "ReferencedSOPInstanceUID") for item in items(dose.header, "ReferencedRTPlanSequence")}
        ]
        fitting = of_plan or fitting
    if len(fitting) > 1:
        warnings.append(f"{len(fitting)} plan doses fit the study; none was used as its reference")
    if len(fitting) != 1:
        return None
    if text(fitting[0].header, "PatientID") not in {"", series.patient_id}:
        warnings.append("the reference dose has another patient identifier; it was used because its plan or frame fits")
    return fitting[0].path

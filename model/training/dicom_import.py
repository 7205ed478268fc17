"""DICOM studies with a planned dose (CT, RTSTRUCT, RTDOSE, better an RTPLAN) → case files, and a log of each study.

A case is named by its pseudonym (`model.dicom.pseudonym`); case files hold neither names nor identifiers of patients.
The log does not either, but it names the path of every study below the source, which may: it belongs where the studies
are, not where the cases go.

Voxels that the dose grid does not reach have no known dose. The targets must lie within it; elsewhere the structures,
the outline among them, are cut to it, and since the outline bounds what is trained on and scored, nothing beyond
counts, as with OpenKBP's possible-dose mask. A cut outline also changes what beams pass through, so in the slices of
the targets little of it may be missing.

A study is refused by a rule of the intake (`model.dicom.rules`, `model.conditioning`) or by one of these:

| code | rule |
|---|---|
| ``no-reference-dose`` | There must be one RTDOSE of the whole plan, in Gy and in the CT's frame of reference. |
| ``dose-not-physical`` | Dose Type must be PHYSICAL. |
| ``dose-of-another-plan`` | Where there is a plan, the dose must refer to it. |
| ``dose-outside`` | The dose grid must meet the outline. |
| ``dose-grid-too-small`` | The dose grid must hold the targets, and in their slices nearly all of the outline. |
| ``dose-unlike-prescription`` | The target of the highest prescription must receive about as much. |
| ``duplicate-case`` | No two studies may have the same patient, study and frame of reference. |
| ``case-not-storable`` | The dose and the number of structures must fit into a case file. |
| ``study-unreadable`` | Reading the study must not break the reader. |
"""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from model.case import Case, Prescription
from model.conditioning.prescription import resolve_prescription
from model.conditioning.site import Site, match_structures
from model.dicom import StructureChoice, build_case, read_study
from model.dicom.collection import Collection, collect_studies
from model.dicom.pseudonym import pseudonym
from model.dicom.reference_dose import check_reference_dose, dose_coverage
from model.errors import DatasetError, DiffDPError
from model.folders import files_below
from model.training.case_file import save_case

LOG = "import.csv"
COLUMNS = (
    "source", "identifier", "outcome", "code", "reason", "warning_count", "warnings", "structures", "prescription",
)  # fmt: skip
IMPORTED, REFUSED = "imported", "refused"

LEAST_OUTLINE = 0.9
"""Least share of the outline, in the slices of the targets, that the dose grid must hold: skin and shoulder tips may be
cut off, a side of the patient not."""

DOSE_OVER_PRESCRIPTION = (0.75, 1.5)
"""Median dose of the target over its prescription: wide enough for any way to prescribe, but the dose of one fraction,
or of the lesser of two phases, falls out."""

Unpack = Callable[[Path, Path], Sequence[Path]]
"""Unpacks an archive into a folder and returns its files, or raises `DiffDPError`."""

Found = tuple[str, tuple[Path, ...] | DiffDPError]
"""A study's place below the source and its files, or why there are none to read."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass
class Outcome:
    """What became of one study.

    Parameters
    ----------
    source
        Deepest folder that holds the study's files, or its archive, or the damaged file, relative to the source.
    identifier
        The study's pseudonym, empty if it was refused before its CT was read.
    code, reason
        Why it was refused, empty if it was imported.
    warnings
        What was left out or taken on trust.
    structures
        Name of each structure found, and the ROI's where that is another.
    prescription
        The targets' doses, the fractions, and where the doses come from.
    """

    source: str
    identifier: str = ""
    code: str = ""
    reason: str = ""
    warnings: list[str] = field(default_factory=list)
    structures: list[str] = field(default_factory=list)
    prescription: str = ""

    @property
    def imported(self) -> bool:
        """Whether there is a case file of it."""
        return not self.code

    def row(self) -> tuple[object, ...]:
        """Return the line of the log, in the order of `COLUMNS`."""
        return (
            self.source,
            self.identifier,
            IMPORTED if self.imported else REFUSED,
            self.code,
            self.reason,
            len(self.warnings),
            "; ".join(self.warnings),
            "; ".join(self.structures),
            self.prescription,
        )


@dataclass(frozen=True)
class ImportResult:
    """Every study's outcome, and how many files in folders were no DICOM objects."""

    outcomes: tuple[Outcome, ...]
    other_count: int


def import_dicom(
    source: Path, destination: Path, site: Site, unpack: Unpack, progress: Progress, *, salt: str = ""
) -> ImportResult:
    """Turn every study below a folder into a case file, ``<pseudonym>.npz``, and log them all in ``import.csv``.

    Files in folders are sorted into studies by `model.dicom.collection`, those of each zip archive on their own.
    A repetition overwrites the cases and the log. While it runs, the log grows as ``import.csv.part``.

    Parameters
    ----------
    source
        Folder of studies, however deep; files that end in .zip are archives.
    destination
        Is made if need be.
    site
        What the studies' ROIs are matched to.
    unpack
        Opens archives, under limits.
    progress
        Told about files while headers are read, then about studies and archives.
    salt
        Gives other pseudonyms than an import without it, or with another.

    Raises
    ------
    DatasetError
        If there is neither a DICOM file nor an archive below the source.
    """
    files = set(files_below(source))
    archives = sorted(path for path in files if path.suffix.lower() == ".zip")
    loose = collect_studies(files.difference(archives), partial(progress, "headers"))
    found = _found(loose, source)
    if not (found or archives):
        raise DatasetError(f"no DICOM file and no zip archive lies below {source}")

    def all_found() -> Iterator[Found]:
        total = len(found) + len(archives)
        for done, study in enumerate(found, start=1):
            yield study
            progress("studies", done, total)
        for done, archive in enumerate(archives, start=len(found) + 1):
            yield from _unpacked(archive, archive.relative_to(source).as_posix(), unpack)
            progress("studies", done, total)

    destination.mkdir(parents=True, exist_ok=True)
    growing = destination / f"{LOG}.part"
    outcomes: list[Outcome] = []
    importer = _Importer(destination, site, salt)
    with growing.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        log = csv.writer(stream)
        log.writerow(COLUMNS)
        for name, study in all_found():
            outcome = importer.try_study(name, study)
            outcomes.append(outcome)
            log.writerow(outcome.row())
            stream.flush()
    growing.replace(destination / LOG)
    return ImportResult(tuple(outcomes), loose.other_count)


def _found(collection: Collection, source: Path) -> list[Found]:
    """Studies and damaged files with their places below the source."""
    studies: list[Found] = [
        (Path(os.path.commonpath([path.parent for path in files])).relative_to(source).as_posix(), files)
        for files in collection.studies
    ]
    return studies + [(path.relative_to(source).as_posix(), error) for path, error in collection.damaged.items()]


def _unpacked(archive: Path, name: str, unpack: Unpack) -> Iterator[Found]:
    """Studies of an archive, all under its name; their files last until the next one is asked for."""
    with TemporaryDirectory() as folder:
        try:
            files = unpack(archive, Path(folder))
        except DiffDPError as error:
            yield name, error
            return
        collection = collect_studies(files, lambda *_: None)
        # Without any DICOM object the reader says so itself
        found = _found(collection, Path(folder)) or [(name, tuple(files))]
        yield from ((name, study) for _, study in found)


class _Importer:
    """Imports one study after another and remembers which pseudonyms are taken."""

    def __init__(self, destination: Path, site: Site, salt: str) -> None:
        self._destination = destination
        self._site = site
        self._salt = salt
        self._sources: dict[str, str] = {}

    def try_study(self, name: str, files: Sequence[Path] | DiffDPError) -> Outcome:
        """Import a study, or say why not."""
        outcome = Outcome(name)
        if isinstance(files, DiffDPError):
            outcome.code, outcome.reason = files.rule, files.message
            return outcome
        try:
            self._import_study(files, outcome)
        except DiffDPError as error:
            outcome.code, outcome.reason = error.rule, error.message
        except (OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - one study that breaks the reader must not cost the others
            # Its text may quote what stands in the files
            outcome.code, outcome.reason = "study-unreadable", f"the study breaks the reader ({type(error).__name__})"
        else:
            self._sources[outcome.identifier] = name
        return outcome

    def _import_study(self, files: Sequence[Path], outcome: Outcome) -> None:
        """Fill in the outcome on the way, so that a refusal, too, shows what was found."""
        study = read_study(files)
        outcome.identifier = pseudonym(study, self._salt)
        outcome.warnings += study.warnings
        match = match_structures(self._site, study.rois)
        outcome.warnings += match.warnings
        outcome.structures += [
            m.name if m.name == m.roi_name else f"{m.name} = {m.roi_name}" for m in match.structures.values()
        ]
        prescription, warnings = resolve_prescription(
            match.targets,
            parameter_gy=None,
            parameter_fractions=None,
            plan_dose_gy=study.plan.target_dose_gy if study.plan else {},
            plan_fractions=study.plan.fractions if study.plan else None,
            plan_highest_gy=study.plan.highest_dose_gy if study.plan else None,
        )
        outcome.warnings += warnings
        outcome.prescription = _prescription_text(prescription)
        check_reference_dose(study)
        if outcome.identifier in self._sources:
            raise DatasetError(
                f"it has the same patient, study and frame of reference as {self._sources[outcome.identifier]}",
                code="duplicate-case",
            )
        choices = {m.name: StructureChoice(m.roi_number, m.kind) for m in match.structures.values()}
        case = build_case(study, choices, prescription, with_reference=True)
        case, left_out = _restrict(case, dose_coverage(study))
        if left_out:
            outcome.warnings.append(f"the dose grid leaves out {left_out:.1%} of the outline, which does not count")
        _check_dose(case)
        try:
            save_case(replace(case, identifier=outcome.identifier), self._destination / f"{outcome.identifier}.npz")
        except ValueError as error:
            raise DatasetError(str(error), code="case-not-storable") from error


def _prescription_text(prescription: Prescription) -> str:
    doses = ", ".join(f"{name} {dose_gy:g} Gy" for name, dose_gy in prescription.dose_gy.items())
    fractions = f" in {prescription.fractions} fractions" if prescription.fractions else ""
    return f"{doses}{fractions} ({prescription.source})"


def _restrict(case: Case, covered: NDArray[np.bool_]) -> tuple[Case, float]:
    """Cut all structures to where dose is known; return the case and the share of the outline that falls away.

    Raises
    ------
    DatasetError
        ``dose-outside`` or ``dose-grid-too-small``.
    """
    outline = case.external
    if not (outline & covered).any():
        raise DatasetError("the dose grid does not meet the patient's outline", code="dose-outside")
    for target in case.prescription.dose_gy:
        mask = case.structures[target].mask
        outside = int((mask & ~covered).sum())
        if outside:
            raise DatasetError(
                f"the dose grid leaves out {outside} of the {mask.sum()} voxels of {target}", code="dose-grid-too-small"
            )
    with_target = (case.target_map_gy() > 0).any(axis=(1, 2))
    share = float((outline & covered)[with_target].sum() / outline[with_target].sum())
    if share < LEAST_OUTLINE:
        raise DatasetError(
            f"in the slices of the targets the dose grid holds {share:.0%} of the outline, expected at least "
            f"{LEAST_OUTLINE:.0%}",
            code="dose-grid-too-small",
        )
    cut = {name: replace(s, mask=s.mask & covered) for name, s in case.structures.items()}
    left_out = 1 - float((outline & covered).sum() / outline.sum())
    return replace(case, structures={name: s for name, s in cut.items() if s.mask.any()}), left_out


def _check_dose(case: Case) -> None:
    """Refuse a dose that cannot be the prescribed course's."""
    assert case.dose_gy is not None  # noqa: S101 - a study without a dose was refused
    target = max(case.prescription.dose_gy, key=lambda name: case.prescription.dose_gy[name])
    prescribed_gy = case.prescription.dose_gy[target]
    median_gy = float(np.median(case.dose_gy[case.structures[target].mask]))
    low, high = DOSE_OVER_PRESCRIPTION
    if not low <= median_gy / prescribed_gy <= high:
        raise DatasetError(
            f"{target} receives {median_gy:.1f} Gy (median), but {prescribed_gy:g} Gy is prescribed to it",
            code="dose-unlike-prescription",
        )

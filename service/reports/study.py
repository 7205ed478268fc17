"""What a report says of a DICOM study, and what it finds in one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.case import EXTERNAL, Prescription
from model.checkpoint.manifest import Manifest
from model.conditioning.prescription import dose_in_name, resolve_prescription
from model.conditioning.site import Matched, RoiLike, Site, StructureMatch, match_structures
from model.dicom.reference_dose import check_reference_dose
from model.dicom.study import StructureChoice, Study
from model.dicom.whole_study import DoseOnCt, dose_on_ct, identifiers
from model.errors import DatasetError, SiteError, StudyError
from service.reports.content import ModelSummary, StudySummary

ANY_SITE = Site(name="any", organs=(), target_levels=(), minimum_organs=0)
"""A site without organs, by which targets and the outline are found in studies of sites that no model knows."""

PLAN_DOSE = "plan dose of the study"

TARGET_TYPES = {"PTV", "CTV", "GTV"}
"""RT ROI Interpreted Types (3006,00A4) of targets."""


@dataclass(frozen=True)
class Choice:
    """Which ROIs of a study are reported, and as what.

    Parameters
    ----------
    site
        Whose names are used; None if the study is of no known site: then ROIs keep their own names.
    structures
        All contoured ROIs by the name under which they are reported.
    planning_targets
        Those that are planning targets; other targets are CTVs and GTVs.
    missing
        Organs of the site that the study lacks.
    """

    site: Site | None
    structures: Mapping[str, StructureChoice]
    planning_targets: tuple[Matched, ...]
    missing: tuple[str, ...]


def summarise_model(manifest: Manifest) -> ModelSummary:
    """Take from a manifest what a reader of the report must know."""
    training = manifest.training
    return ModelSummary(
        name=manifest.name,
        version=manifest.version,
        description=manifest.description,
        site=manifest.site.name,
        licence=manifest.licence,
        weights_sha256=manifest.weights_sha256,
        training_data=training.data,
        training_patients=training.patients,
        simulated_training_data=training.simulated,
        figures_of_merit=manifest.figures_of_merit,
    )


def summarise_study(study: Study, dose: DoseOnCt, reference: DoseOnCt | None) -> StudySummary:
    """Say which objects a report is about."""
    uids = identifiers(study)
    return StudySummary(
        study_instance_uid=uids.study,
        structure_set_uid=uids.structure_set,
        plan_uid=uids.plan or None,
        dose_uid=dose.sop_instance_uid,
        reference_dose_uid=reference.sop_instance_uid if reference else None,
        ct_voxels=study.grid.shape,
        ct_spacing_mm=study.grid.spacing_mm,
    )


def roi_colours(study: Study) -> Mapping[int, tuple[int, int, int]]:
    """ROI Display Color (3006,002A) by ROI number."""
    return {roi.number: roi.display_colour for roi in study.rois if roi.display_colour is not None}


def plan_dose(study: Study) -> tuple[DoseOnCt | None, tuple[str, ...]]:
    """Read the dose of the study's own plan, if it has one that can be compared with.

    Returns
    -------
    dose, warnings
        The warnings say why a dose that is there was not used.
    """
    if study.reference_dose_file is None:
        return None, ()
    try:
        check_reference_dose(study)
        dose = dose_on_ct(study, study.reference_dose_file)
    except (DatasetError, StudyError) as error:
        return None, (f"the study's dose was not compared with: {error.message}",)
    return dose, dose.warnings


def choose_structures(study: Study, sites: Sequence[Site], overrides: Mapping[str, str]) -> Choice:
    """Decide under which name and as what every contoured ROI of a study is reported.

    Parameters
    ----------
    sites
        That the models know; the one of whose structures the study has most names them.
    overrides
        The site's name → ROI name.

    Raises
    ------
    SiteError
        If overrides are given and fit no site.
    """
    usable: list[RoiLike] = [roi for roi in study.rois if roi.contour_count > 0]
    matches: list[tuple[Site, StructureMatch]] = []
    refusals = []
    for known in sites:
        try:
            matches.append((known, match_structures(known, usable, overrides)))
        except SiteError as error:
            refusals.append(error)
    matches.sort(key=lambda pair: -len(pair[1].structures))
    if not matches and overrides:
        raise refusals[0] if refusals else SiteError("no model knows the structures that 'structures' names")
    best: tuple[Site | None, StructureMatch | None] = matches[0] if matches else (None, _any_match(usable))
    site, match = best
    choices: dict[str, StructureChoice] = {}
    if match:
        choices = {name: StructureChoice(found.roi_number, found.kind) for name, found in match.structures.items()}
    chosen = {choice.roi_number for choice in choices.values()}
    for roi in usable:
        if roi.number in chosen:
            continue
        if roi.interpreted_type == "EXTERNAL" and EXTERNAL not in choices:
            choices[EXTERNAL] = StructureChoice(roi.number, "external")
            continue
        name = roi.name.strip() or f"ROI {roi.number}"
        if name in choices or name == EXTERNAL:
            name = f"{name} ({roi.number})"
        choices[name] = StructureChoice(roi.number, "target" if roi.interpreted_type in TARGET_TYPES else "oar")
    return Choice(site, choices, match.targets if match else (), match.missing if match else ())


def find_prescription(
    study: Study,
    choice: Choice,
    parameter_gy: float | Mapping[str, float] | None,
    parameter_fractions: int | None,
) -> tuple[Prescription | None, tuple[str, ...]]:
    """Find what is prescribed to those targets of which it is known: by the parameter, the plan or the names.

    Returns
    -------
    prescription, warnings

    Raises
    ------
    SiteError
        If the parameter fits no target, or is implausible.
    """
    plan = study.plan
    plan_dose_gy = plan.target_dose_gy if plan else {}
    planning = {target.name: target for target in choice.planning_targets}
    targets = planning | {
        name: Matched(name, "target", structure.roi_number, name)
        for name, structure in choice.structures.items()
        if structure.kind == "target" and name not in planning
    }
    if parameter_gy is not None and not isinstance(parameter_gy, Mapping):
        known = list((planning or targets).values())
    else:
        named = set(parameter_gy or ())
        known = [
            target
            for name, target in targets.items()
            if name in named
            or target.roi_number in plan_dose_gy
            or (name in planning and dose_in_name(name) is not None)
        ]
        if not known and len(planning) == 1 and plan and plan.highest_dose_gy:
            known = list(planning.values())
        if not known and not named:
            return None, ()
    try:
        return resolve_prescription(
            known,
            parameter_gy=parameter_gy,
            parameter_fractions=parameter_fractions,
            plan_dose_gy=plan_dose_gy,
            plan_fractions=plan.fractions if plan else None,
            plan_highest_gy=plan.highest_dose_gy if plan else None,
        )
    except SiteError as error:
        if parameter_gy is not None:
            raise
        return None, (f"the prescription is not used: {error.message}",)


def _any_match(rois: Sequence[RoiLike]) -> StructureMatch | None:
    """Match targets and outline only; None if there is no target."""
    try:
        return match_structures(ANY_SITE, rois)
    except SiteError:
        return None

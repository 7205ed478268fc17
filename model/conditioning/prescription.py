"""Which dose is prescribed to which target, and where that is said."""

import re
from collections.abc import Mapping, Sequence

from model.case import Prescription, PrescriptionSource
from model.conditioning.site import Matched
from model.errors import SiteError

LOWEST_PLAUSIBLE_GY = 1.0
HIGHEST_PLAUSIBLE_GY = 100.0
"""No course of external radiotherapy lies outside these; a number outside is a slip of unit (cGy) or of reading."""


AGREEMENT_GY = 0.01
"""Doses that differ by less are the same number, written twice."""

_DOSE = re.compile(
    r"(?<![0-9.,])([0-9]+(?:[.,][0-9]+)?)(?![.,]?[0-9]|\s*(?:(?:mm|cm|fx|fr|fractions?)(?![a-z])|%))"
    r"\s*(c?gy)?(?:\s*x\s*([0-9]+))?",
    re.IGNORECASE,
)
"""A number that is no margin, fraction count or percentage, its unit, and the fractions by which TG-263 multiplies it
("PTV_Liver_20Gyx3")."""


def dose_in_name(name: str) -> float | None:
    """Prescribed dose in Gy that a target's name tells, TG-263 style in cGy or as clinics write it in Gy.

    >>> dose_in_name("PTV_7000"), dose_in_name("PTV 66,5Gy"), dose_in_name("PTV_20Gyx3"), dose_in_name("PTVn1")
    (70.0, 66.5, 60.0, None)
    """
    for number, unit, fractions in _DOSE.findall(name):
        dose = float(number.replace(",", ".")) * int(fractions or 1)
        dose_gy = dose / 100.0 if unit.lower() == "cgy" or float(number.replace(",", ".")) >= 1000.0 else dose
        if 10.0 <= dose_gy <= HIGHEST_PLAUSIBLE_GY:
            return dose_gy
    return None


def resolve_prescription(
    targets: Sequence[Matched],
    *,
    parameter_gy: float | Mapping[str, float] | None,
    parameter_fractions: int | None,
    plan_dose_gy: Mapping[int, float],
    plan_fractions: int | None,
    plan_highest_gy: float | None = None,
) -> tuple[Prescription, tuple[str, ...]]:
    """Find the prescription of every target: the caller's parameter, else the plan, else the targets' names.

    Parameters
    ----------
    targets
        Matched targets.
    parameter_gy
        The caller's: one number for a single target, or Gy by target name.
    plan_dose_gy
        Of the study's RTPLAN, by ROI number.
    plan_highest_gy
        Highest target prescription of the plan, used for a single target that the plan does not name.

    Returns
    -------
    prescription, warnings

    Raises
    ------
    SiteError
        ``prescription-missing``, ``prescription-ambiguous`` or ``prescription-implausible``.
    """
    named = dict(parameter_gy) if isinstance(parameter_gy, Mapping) else {}
    unknown = sorted(set(named) - {t.name for t in targets})
    if unknown:
        raise SiteError(
            f"'prescription_gy' names {', '.join(unknown)}, but the targets are {', '.join(t.name for t in targets)}",
            code="prescription-ambiguous",
        )
    if isinstance(parameter_gy, int | float):
        if len(targets) > 1:
            raise SiteError(
                f"'prescription_gy' is one number, but there are {len(targets)} targets: give a dose for each of "
                + ", ".join(t.name for t in targets),
                code="prescription-ambiguous",
            )
        named = {targets[0].name: float(parameter_gy)}

    plan = {t.name: plan_dose_gy[t.roi_number] for t in targets if t.roi_number in plan_dose_gy}
    if not plan and len(targets) == 1 and plan_highest_gy is not None:
        plan = {targets[0].name: plan_highest_gy}
    in_names = {t.name: dose for t in targets if (dose := dose_in_name(t.name)) is not None}
    doses = in_names | plan | named
    missing = [t.name for t in targets if t.name not in doses]
    if missing:
        raise SiteError(
            f"no prescribed dose is known for {', '.join(missing)}: neither the plan nor the name tells it; "
            "give it with the parameter 'prescription_gy'",
            code="prescription-missing",
            details={"targets": missing},
        )
    implausible = {k: v for k, v in doses.items() if not LOWEST_PLAUSIBLE_GY <= v <= HIGHEST_PLAUSIBLE_GY}
    if implausible:
        raise SiteError(
            f"implausible prescription {implausible}: expected {LOWEST_PLAUSIBLE_GY} to {HIGHEST_PLAUSIBLE_GY} Gy",
            code="prescription-implausible",
        )
    warnings = [
        f"'prescription_gy' gives {named[name]:g} Gy for {name}, the plan {plan[name]:g} Gy; the parameter is used"
        for name in sorted(set(named) & set(plan))
        if abs(named[name] - plan[name]) > AGREEMENT_GY
    ]
    warnings += [
        f"the name {name} tells {in_names[name]:g} Gy, but {doses[name]:g} Gy is prescribed and used"
        for name in sorted(in_names)
        if abs(in_names[name] - doses[name]) > AGREEMENT_GY
    ]
    if plan and any(name not in plan and name not in named for name in doses):
        only_named = ", ".join(name for name in doses if name not in plan and name not in named)
        warnings.append(f"the plan prescribes nothing to {only_named}; the dose in the name is used")
    sources: list[PrescriptionSource] = [
        "parameter" if name in named else "plan" if name in plan else "structure-name" for name in doses
    ]
    return Prescription(
        {target.name: doses[target.name] for target in targets},
        parameter_fractions or plan_fractions,
        max(sources, key=sources.count),
    ), tuple(warnings)

"""Treatment sites: the structures a model was trained with, and how a study's ROIs are matched to them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from model.case import EXTERNAL
from model.errors import SiteError

_SIDE_WORDS = {"r": "R", "rt": "R", "right": "R", "dx": "R", "l": "L", "lt": "L", "left": "L", "sin": "L"}
_EXTERNAL_KEYS = {("external", ""), ("body", ""), ("skin", ""), ("outline", ""), ("patient", ""), ("outercontour", "")}


class SiteOrgan(BaseModel):
    """An organ at risk of a site, by its TG-263 name, with the other names under which clinics know it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    synonyms: tuple[str, ...] = ()


class TargetLevel(BaseModel):
    """A prescription level of a site; `relative_dose` is its share of the highest prescription."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    relative_dose: float


class Site(BaseModel):
    """What a model knows of the body region it was trained on.

    `minimum_organs` is the least number of the site's organs that a study must hold to be taken for this site.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    organs: tuple[SiteOrgan, ...]
    target_levels: tuple[TargetLevel, ...]
    minimum_organs: int
    gantry_deg: tuple[float, ...] = ()

    def level_of(self, relative_dose: float) -> TargetLevel:
        """Return the level nearest to a target's share of the highest prescription."""
        return min(self.target_levels, key=lambda level: abs(level.relative_dose - relative_dose))


class RoiLike(Protocol):
    """What matching needs to know of an ROI; `model.dicom.Roi` is one."""

    @property
    def number(self) -> int:
        """ROI Number (3006,0022)."""

    @property
    def name(self) -> str:
        """ROI Name (3006,0026)."""

    @property
    def interpreted_type(self) -> str:
        """RT ROI Interpreted Type (3006,00A4), upper case, empty if absent."""

    @property
    def contour_count(self) -> int:
        """Number of contours."""


@dataclass(frozen=True)
class Matched:
    """An ROI of the study and what it is used as."""

    name: str
    kind: Literal["target", "oar", "external"]
    roi_number: int
    roi_name: str


@dataclass(frozen=True)
class StructureMatch:
    """Result of matching a study's ROIs to a site.

    Parameters
    ----------
    structures
        By the name under which the case will hold them: the site's name for organs, the ROI's own for targets.
    missing
        Organs of the site that the study lacks.
    unused
        Names of ROIs that have no use.
    warnings
        What a user should know of the mapping.
    """

    structures: Mapping[str, Matched]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def targets(self) -> tuple[Matched, ...]:
        """Matched targets in the study's order."""
        return tuple(m for m in self.structures.values() if m.kind == "target")


def name_key(name: str) -> tuple[str, str]:
    """Key under which spellings of one structure name agree: letters and digits in lower case, and the side (R, L).

    >>> name_key("Parotid_R") == name_key("RightParotid") == name_key("rt. parotid")
    True
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", name)
    sides = {_SIDE_WORDS[w.lower()] for w in words if w.lower() in _SIDE_WORDS}
    if len(sides) > 1:
        return "".join(w.lower() for w in words), ""
    base = "".join(w.lower() for w in words if w.lower() not in _SIDE_WORDS)
    return base, "".join(sides)


def is_target(roi: RoiLike) -> bool:
    """Whether an ROI is a planning target: typed PTV, or named PTV and not typed as something else.

    TG-263 lets a classifier follow: primary, nodal, surgical bed, parenchyma, venous thrombosis, vascular.
    """
    named = re.match(r"ptv(p|n|sb|par|v|vas)?(?![a-z])", roi.name.strip().lower()) is not None
    return roi.interpreted_type == "PTV" or (named and roi.interpreted_type in {"", "ORGAN", "CTV", "GTV"})


def match_structures(site: Site, rois: Sequence[RoiLike], overrides: Mapping[str, str] | None = None) -> StructureMatch:
    """Decide which ROI of a study is which structure of a site.

    Parameters
    ----------
    site
        The site of the model.
    rois
        All ROIs of the study; those without contours are not used.
    overrides
        Site name (an organ, a target level such as ``PTV_High``, or ``External``) → ROI name, as the caller wants it.
        Naming any target level makes the named ones the only targets.

    Raises
    ------
    SiteError
        ``override-unknown``: an override names a structure that the site or the study lacks;
        ``structure-ambiguous``: two ROIs claim one structure, or overrides one ROI for two; ``site-unknown``: too few
        of the site's organs are there; ``no-target``: no planning target.
    """
    usable = [roi for roi in rois if roi.contour_count > 0]
    warnings = [f"ROI {roi.name!r} has no contours and is not used" for roi in rois if roi.contour_count == 0]
    chosen = _overridden(site, usable, overrides or {})
    free = [roi for roi in usable if roi.number not in {m.roi_number for m in chosen.values()}]
    for organ in site.organs:
        if organ.name not in chosen and (roi := _find_organ(organ, free)) is not None:
            chosen[organ.name] = Matched(organ.name, "oar", roi.number, roi.name)
    if EXTERNAL not in chosen:
        if (roi := _find_external(free)) is not None:
            chosen[EXTERNAL] = Matched(EXTERNAL, "external", roi.number, roi.name)
        else:
            warnings.append("the study has no external outline; it is derived from the CT")
    if not any(m.kind == "target" for m in chosen.values()):
        taken = {m.roi_number for m in chosen.values()}
        targets = [roi for roi in free if roi.number not in taken and is_target(roi)]
        for roi in targets:
            _only(roi.name, [other for other in targets if other.name == roi.name])
            chosen[roi.name] = Matched(roi.name, "target", roi.number, roi.name)

    missing = tuple(organ.name for organ in site.organs if organ.name not in chosen)
    _check_site(site, chosen, missing, usable)
    if missing:
        warnings.append(f"not in the study, predicted without: {', '.join(missing)}")
    used = {m.roi_number for m in chosen.values()}
    unused = tuple(roi.name for roi in usable if roi.number not in used)
    return StructureMatch(chosen, missing, unused, tuple(warnings))


def _check_site(site: Site, chosen: Mapping[str, Matched], missing: Sequence[str], usable: Sequence[RoiLike]) -> None:
    has_target = any(m.kind == "target" for m in chosen.values())
    found = [organ.name for organ in site.organs if organ.name in chosen]
    if len(found) < site.minimum_organs:
        lacking = [*missing, *(() if has_target else ("a planning target (PTV)",))]
        raise SiteError(
            f"the study does not look like {site.name}: it holds {len(found)} of the {len(site.organs)} organs "
            f"that the model knows and needs at least {site.minimum_organs}; missing: {', '.join(lacking)}",
            details={"missing": lacking, "found": found, "site": site.name},
        )
    if not has_target:
        raise SiteError(
            "no ROI with contours is a planning target: none is typed PTV or named PTV…",
            code="no-target",
            details={"rois": [roi.name for roi in usable]},
        )


def _find_organ(organ: SiteOrgan, rois: Sequence[RoiLike]) -> RoiLike | None:
    keys = {name_key(spelling) for spelling in (organ.name, *organ.synonyms)}
    exact = [roi for roi in rois if roi.name == organ.name]
    return _only(organ.name, exact or [roi for roi in rois if name_key(roi.name) in keys])


def _find_external(rois: Sequence[RoiLike]) -> RoiLike | None:
    typed = [roi for roi in rois if roi.interpreted_type == "EXTERNAL"]
    return _only(EXTERNAL, typed or [roi for roi in rois if name_key(roi.name) in _EXTERNAL_KEYS])


def _only(name: str, candidates: Sequence[RoiLike]) -> RoiLike | None:
    if len(candidates) > 1:
        names = [roi.name for roi in candidates]
        raise SiteError(
            f"several ROIs could be {name}: {', '.join(names)}; say which with the parameter 'structures'",
            code="structure-ambiguous",
            details={"structure": name, "candidates": names},
        )
    return candidates[0] if candidates else None


def _overridden(site: Site, usable: Sequence[RoiLike], overrides: Mapping[str, str]) -> dict[str, Matched]:
    kinds: dict[str, Literal["target", "oar", "external"]] = {EXTERNAL: "external"}
    kinds.update({organ.name: "oar" for organ in site.organs})
    kinds.update({level.name: "target" for level in site.target_levels})
    chosen: dict[str, Matched] = {}
    for name, roi_name in overrides.items():
        found = [roi for roi in usable if roi.name == roi_name]
        if name not in kinds or len(found) != 1:
            raise SiteError(
                f"'structures' maps {name!r} to {roi_name!r}, but "
                + (
                    f"{site.name} knows no {name!r}"
                    if name not in kinds
                    else f"{len(found)} ROIs with contours have it"
                ),
                code="override-unknown",
                details={"known": sorted(kinds), "rois": [roi.name for roi in usable]},
            )
        if found[0].number in {m.roi_number for m in chosen.values()}:
            raise SiteError(
                f"'structures' uses the ROI {roi_name!r} twice",
                code="structure-ambiguous",
                details={"structure": name, "candidates": [roi_name]},
            )
        chosen[roi_name if kinds[name] == "target" else name] = Matched(
            roi_name if kinds[name] == "target" else name, kinds[name], found[0].number, roi_name
        )
    return chosen

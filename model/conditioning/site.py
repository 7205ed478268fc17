"""Treatment sites: the structures a model was trained with, and how a study's ROIs are matched to them.

An ROI is matched by its name and its type. A name that says more than a structure's own (a margin, "PRV", "opt",
TG-263's ~ for a part) names something else. Where name and type contradict each other the ROI is not used, and several
ROIs that could be one structure are refused. The caller can say otherwise with the parameter ``structures``.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from model.case import EXTERNAL
from model.errors import SiteError

_SIDES = {
    "R": (
        *("r", "rt", "rgt", "right", "re", "rechts", "rechte", "rechter", "dx", "dex", "dext", "dexter", "dextra"),
        *("destra", "derecha", "der", "droite"),
    ),
    "L": (
        *("l", "lt", "lft", "left", "li", "links", "linke", "linker", "sx", "sin", "sinister", "sinistra"),
        *("izquierda", "izq", "gauche"),
    ),
}
"""Words for a side: English, German and Dutch, Latin, Italian, Spanish, French."""

_SIDE_OF = {word: side for side, words in _SIDES.items() for word in words}

_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O"})
"""Letters that Unicode does not take apart into one of ASCII and an accent."""

_WORD = re.compile(r"""^_|[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\sA-Za-z0-9_.,:;/()\[\]{}'"-]""")
"""A word, a number or a sign that is no mere separator; also a leading underscore, which in TG-263 marks what only
serves planning."""

_EXTERNAL_NAMES = (
    *("External", "Body", "Outline", "Patient", "Outer Contour", "External Contour", "Body Contour", "Body Outline"),
    *("Patient Outline", "Patient Contour", "Außenkontur", "Körper", "Koerper", "Contour externe"),
)
"""Not Skin, which is a rind of a few millimetres as often as the outline."""

_OTHER_WORDS = {
    *("opt", "opti", "optim", "optimization", "optimisation", "eval", "evaluation", "ring", "rind", "shell", "prv"),
    *("avoid", "avoidance", "minus", "sub", "crop", "cropped", "exp", "help", "hilf", "hilfe", "dummy", "temp", "tmp"),
    *("test", "old", "hot", "cold", "hotspot", "coldspot", "overlap", "tuning", "gtv", "ctv", "itv"),
}
"""Words that make of a target's name that of something else."""

_CROPPED = re.compile(r"-\s*(0[0-9]|[0-9.,]+\s*(mm|cm)(?![a-z])|ptv)|\+\s*[0-9]", re.IGNORECASE)
"""A margin taken off or put on ("PTV-03" in TG-263, "PTV-3mm", "PTV+5"), or a target taken off ("Larynx-PTV")."""

_NO_ORGAN = {
    *("PTV", "CTV", "GTV", "EXTERNAL", "TREATED_VOLUME", "IRRAD_VOLUME", "BOLUS", "MARKER", "REGISTRATION"),
    *("ISOCENTER", "CONTRAST_AGENT", "BRACHY_CHANNEL", "BRACHY_ACCESSORY", "BRACHY_SRC_APP", "BRACHY_CHNL_SHLD"),
    *("SUPPORT", "FIXATION", "DOSE_REGION", "CONTROL", "DOSE_MEASUREMENT"),
}
"""RT ROI Interpreted Types (3006,00A4; PS3.3 C.8.8.8) that contradict the name of an organ. ORGAN, the usual default,
contradicts nothing."""

_NO_TARGET = _NO_ORGAN - {"PTV", "CTV", "GTV"} | {"AVOIDANCE", "CAVITY"}
_NO_EXTERNAL = _NO_ORGAN - {"EXTERNAL"}

_TARGET = "a target"
_DERIVED = "no target"


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
    decomposed = unicodedata.normalize("NFKD", name.strip().translate(_LETTERS))
    words = _WORD.findall("".join(c for c in decomposed if not unicodedata.combining(c)))
    sides = {_SIDE_OF[w.lower()] for w in words if w.lower() in _SIDE_OF}
    if len(sides) > 1:
        return "".join(words).lower(), ""
    return "".join(w for w in words if w.lower() not in _SIDE_OF).lower(), "".join(sides)


def _keys(names: Iterable[str]) -> set[tuple[str, str]]:
    """Keys of a structure's names, also of those in which nothing parts the side from the rest ("RPAROTID")."""
    keys = {name_key(name) for name in names}
    sided = [(base, word) for base, side in keys if side for word in _SIDES[side]]
    return keys | {(word + base, "") for base, word in sided} | {(base + word, "") for base, word in sided}


def _target_in_name(name: str) -> str | None:
    """Whether a name is that of a target, of what is not but may look like one, or of neither.

    TG-263 lets a classifier follow PTV: primary, nodal, surgical bed, parenchyma, venous thrombosis, vascular.
    """
    words = re.findall(r"[a-z]+|[0-9]+", re.sub(r"([pcgi]tv)", r" \1 ", name.lower()))
    first = next(iter(words), "")
    if name.startswith("_") or first in {"x", "z"} or _OTHER_WORDS & set(words) or words.count("ptv") > 1:
        return _DERIVED
    if _CROPPED.search(name):
        return _DERIVED
    return _TARGET if first == "ptv" else None


@dataclass(frozen=True)
class _Role:
    """What an ROI can be used as, if anything; `doubt` says why not where its name and type contradict each other."""

    name: str | None
    doubt: str = ""


def _structure_by_key(site: Site) -> Mapping[tuple[str, str], str]:
    names = {organ.name: (organ.name, *organ.synonyms) for organ in site.organs} | {EXTERNAL: _EXTERNAL_NAMES}
    return {key: structure for structure, spellings in names.items() for key in _keys(spellings)}


def _role(roi: RoiLike, structure_by_key: Mapping[tuple[str, str], str]) -> _Role:
    """Weigh what an ROI's name says against its type."""
    kind = roi.interpreted_type
    named = structure_by_key.get(name_key(roi.name)) or _target_in_name(roi.name.strip())
    if named == _DERIVED and kind == "PTV":
        return _Role(None, "its name says no target")
    if named is None or named == _DERIVED:
        return _Role({"PTV": _TARGET, "EXTERNAL": EXTERNAL}.get(kind))
    forbidden = {EXTERNAL: _NO_EXTERNAL, _TARGET: _NO_TARGET}.get(named, _NO_ORGAN)
    return _Role(None, f"its name says {named}") if kind in forbidden else _Role(named)


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
    taken = {m.roi_number for m in chosen.values()}
    structure_by_key = _structure_by_key(site)
    roles = [(roi, _role(roi, structure_by_key)) for roi in usable if roi.number not in taken]
    warnings += [
        f"ROI {roi.name!r} is typed {roi.interpreted_type}, but {role.doubt}: it is not used unless the parameter "
        "'structures' says as what"
        for roi, role in roles
        if role.doubt
    ]
    for organ in site.organs:
        claimants = [roi for roi, role in roles if role.name == organ.name]
        if organ.name not in chosen and (roi := _most_exact(organ.name, claimants, warnings)) is not None:
            chosen[organ.name] = Matched(organ.name, "oar", roi.number, roi.name)
    if EXTERNAL not in chosen:
        claimants = [roi for roi, role in roles if role.name == EXTERNAL]
        typed = [roi for roi in claimants if roi.interpreted_type == "EXTERNAL"]
        if (roi := _only(EXTERNAL, typed or claimants)) is not None:
            chosen[EXTERNAL] = Matched(EXTERNAL, "external", roi.number, roi.name)
        else:
            warnings.append("the study has no external outline; it is derived from the CT")
    if not any(m.kind == "target" for m in chosen.values()):
        targets = [roi for roi, role in roles if role.name == _TARGET]
        for roi in targets:
            _only(roi.name, [other for other in targets if other.name == roi.name])
            chosen[roi.name] = Matched(roi.name, "target", roi.number, roi.name)

    missing = tuple(organ.name for organ in site.organs if organ.name not in chosen)
    set_aside = [roi.name for roi, role in roles if role.doubt]
    _check_site(site, chosen, missing, [roi.name for roi in usable], set_aside)
    if missing:
        warnings.append(f"not in the study, predicted without: {', '.join(missing)}")
    used = {m.roi_number for m in chosen.values()}
    unused = tuple(roi.name for roi in usable if roi.number not in used)
    return StructureMatch(chosen, missing, unused, tuple(warnings))


def _check_site(
    site: Site,
    chosen: Mapping[str, Matched],
    missing: Sequence[str],
    roi_names: Sequence[str],
    set_aside: Sequence[str],
) -> None:
    has_target = any(m.kind == "target" for m in chosen.values())
    found = [organ.name for organ in site.organs if organ.name in chosen]
    contradictory = f"; name and type contradict each other: {', '.join(set_aside)}" if set_aside else ""
    if len(found) < site.minimum_organs:
        lacking = [*missing, *(() if has_target else ("a planning target (PTV)",))]
        raise SiteError(
            f"the study does not look like {site.name}: it holds {len(found)} of the {len(site.organs)} organs "
            f"that the model knows and needs at least {site.minimum_organs}; missing: {', '.join(lacking)}"
            + contradictory,
            details={"missing": lacking, "found": found, "site": site.name, "set_aside": list(set_aside)},
        )
    if not has_target:
        raise SiteError(
            "no ROI with contours is a planning target: none is typed PTV or named PTV…" + contradictory,
            code="no-target",
            details={"rois": list(roi_names), "set_aside": list(set_aside)},
        )


def _most_exact(name: str, candidates: Sequence[RoiLike], warnings: list[str]) -> RoiLike | None:
    """Of several ROIs take the one with exactly the structure's name."""
    exact = [roi for roi in candidates if roi.name == name]
    others = [roi.name for roi in candidates if roi.name != name]
    if exact and others:
        warnings.append(f"besides the ROI {name} these could be {name} and are not used: {', '.join(others)}")
    return _only(name, exact or candidates)


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

"""Which ROI is what: names as clinics write them, and what is refused."""

from dataclasses import dataclass

import pytest

from model.case import EXTERNAL
from model.checkpoint.store import find_checkpoints
from model.conditioning.head_and_neck import SITE
from model.conditioning.site import SiteOrgan, match_structures, name_key
from model.errors import SiteError


@dataclass(frozen=True)
class Roi:
    number: int
    name: str
    interpreted_type: str = ""
    contour_count: int = 10


USUAL = (
    "BODY",
    "PTV_7000",
    "Brainstem",
    "SpinalCord",
    "Parotid_R",
    "Parotid_L",
    "Esophagus",
    "Larynx",
    "Bone_Mandible",
)


def rois(*names: str | Roi) -> list[Roi]:
    return [name if isinstance(name, Roi) else Roi(number, name) for number, name in enumerate(names, start=1)]


def named(match) -> dict[str, str]:
    return {name: m.roi_name for name, m in match.structures.items()}


def refusal(*names: str | Roi, **overrides) -> SiteError:
    with pytest.raises(SiteError) as caught:
        match_structures(SITE, rois(*names), **overrides)
    return caught.value


def test_tg_263_names_are_known():
    match = match_structures(SITE, rois(*USUAL))
    assert named(match) == {EXTERNAL: "BODY", **{name: name for name in USUAL[1:]}}
    assert (match.missing, match.unused, match.warnings) == ((), (), ())
    assert [m.name for m in match.targets] == ["PTV_7000"]
    assert match.structures["PTV_7000"].kind == "target"
    assert match.structures[EXTERNAL].kind == "external"
    assert match.structures["Larynx"].kind == "oar"


SPELLINGS = {
    "Parotid_R": [
        *("Parotid_R", "PAROTID_R", "parotid r", "Parotid-R", "Parotid (R)", "R Parotid", "RParotid", "RPAROTID"),
        *("Rparotid", "ParotidR", "parotidr", "PAROTIDRT", "Rt Parotid", "RtParotid", "rt. parotid", "parotid rt."),
        *("RightParotid", "Right Parotid Gland", "PAROTID_RIGHT", "Parotid Gland, right", "Glnd_Parotid_R"),
        *("Parotis re", "Parotis_rechts", "PAROTIS RE.", "Gl. parotis re", "Glandula parotidea dextra", "Parotis_dx"),
        *("Parotide D", "Parotide droite", "Parótida derecha", "Ohrspeicheldrüse rechts"),
    ],
    "Parotid_L": [
        *("Parotid_L", "L_PAROTID", "Left Parotid Gland", "LeftParotid", "lt parotid", "Lt. Parotid", "LTPAROTID"),
        *("ParotidL", "Glnd_Parotid_L", "Parotis li", "Parotis links", "Parotis_li.", "Parotis sin", "Parotis sx"),
        *("Parotide G", "Parotide gauche", "Parotida izquierda", "Ohrspeicheldruese links"),
    ],
    "SpinalCord": [
        *("SpinalCord", "SPINALCORD", "spinal cord", "SPINAL_CORD", "Spinal-Cord", "Spinal  Cord ", "Cord", "CORD"),
        *("Myelon", "SpinalCanal", "Spinal_Canal", "Rückenmark", "Rueckenmark", "Ru\u0308ckenmark", "Spinalkanal"),
        *("Moelle épinière", "Midollo spinale", "Médula espinal", "Myelum"),
    ],
    "Brainstem": [
        *("Brainstem", "BrainStem", "brain stem", "BRAINSTEM", "Brain_Stem", "Hirnstamm", "HIRNSTAMM", "Hersenstam"),
        *("Tronc cérébral", "Tronco encefalico", "Troncoencéfalo"),
    ],
    "Esophagus": [
        *("Esophagus", "ESOPHAGUS", "Oesophagus", "oesophagus", "Ösophagus", "esophagus_s", "Cervical Esophagus"),
        *("Eso", "Esófago", "Œsophage", "Speiseröhre", "Slokdarm"),
    ],
    "Bone_Mandible": [
        *("Bone_Mandible", "Mandible", "MANDIBLE", "mandibula", "Bone Mandible", "Mandible_Bone", "Unterkiefer"),
        *("Mandibule", "Mandibola", "Mandíbula", "Jaw"),
    ],
    "Larynx": ["Larynx", "LARYNX", "larynx", "Kehlkopf", "Laringe", "LarynxGSL"],
    EXTERNAL: [
        *("External", "EXTERNAL", "BODY", "Body", "Body Contour", "Outline", "Patient", "Outer Contour", "Körper"),
        *("AUSSENKONTUR", "Außenkontur", "body_outline"),
    ],
    "PTV": [
        *("PTV", "ptv", "PTV_7000", "PTV70", "PTV 70 Gy", "PTV_70.0", "PTV-70", "PTV1", "PTV_High", "PTVboost", "PTVp"),
        *("PTVp_7000", "PTVn1", "PTV_N", "PTV T+N", "PTV_Larynx", "PTV15mm 60Gy", "PTV 2.12Gy x 33", "PTV_LN_R"),
    ],
}
"""What clinics call the structures of the site."""

OTHERS = [
    # Margins, parts and helpers of organs
    *("Parotid_R_PRV", "Parotid_R_PRV05", "PRV SpinalCord", "SpinalCord_PRV", "SpinalCord+5mm", "SpinalCord +0.5cm"),
    *("SpinalCord_05", "Cord+3", "SpinalCord+", "Brainstem_PRV03", "Brainstem+3mm", "Brainstem_Core", "Brainstem_Surf"),
    *(
        "Parotid_R-PTV",
        "Larynx-PTV",
        "Larynx - PTV70",
        "Parotid_R sub PTV",
        "Mandible-PTV",
        "zParotid_R",
        "z_SpinalCord",
    ),
    *("_Larynx", "opt Larynx", "Parotid_R_opt", "optParotid_R", "Larynx_avoid", "Larynx~", "Parotid_R~", "Larynx?"),
    *("Larynx^Ex", "Larynx*", "Larynx_SG", "Larynx_R", "Parotid_R_Deep", "Parotid_R2", "Parotid_R copy", "Larynx old"),
    # Neither side, or both
    *("Parotid", "Parotids", "Parotid_L_R", "Parotids_L+R", "Parotis bds.", "Glnd_Parotids"),
    # Neighbours
    *("Pharynx", "Larynx_Pharynx", "Hypopharynx", "Brain", "Submandibular_R", "Glnd_Submand_L", "Trachea", "Lips"),
    *("BS", "SC", "Lt Lung", "SpinalCord_L", "Cricopharyngeus", "Cochlea_R", "Teeth", "喉", "Larynx喉"),
    # Not the outline
    *("Skin", "BODY-PTV", "Body+5mm", "Couch", "CouchSurface", "Table", "Mask", "Bolus"),
    # Not targets
    *("CTV", "CTV_7000", "CTVp", "GTV", "GTVp", "ITV", "Ring", "NS_Ring", "PTVring", "PTV_Ring", "PTV70 Ring 2cm"),
    *("Ring_PTV", "zPTV_opt", "zPTV_7000", "PTV_opt", "PTVopt70", "PTV_High_OPT", "optPTV", "PTV_Eval", "PTV70_EVAL"),
    *("_PTV_7000", "xPTV", "PTV-03", "PTV-3mm", "PTV - 0.3 cm", "PTV+5mm", "PTV70-PTV56", "PTV minus Parotid"),
    *("PTV_avoid", "PTV_PRV", "PTV_CTV", "PTV shell", "PTV_old", "Dose 95%", "Isocentre", "1cm_sphere"),
]
"""What lies beside them in structure sets, and must not be taken for them."""


def lonely(name: str, interpreted_type: str = "") -> str | None:
    """What an ROI is used as beside organs and a target that nobody can mistake; None if it is not used."""
    beside = [Roi(number, f"other {number}", "ORGAN") for number in range(1, 4)]
    others = {organ.name: roi.name for organ, roi in zip(MADE_UP.organs[-3:], beside, strict=True)}
    roi = Roi(9, name, interpreted_type)
    match = match_structures(MADE_UP, [roi, *beside, Roi(10, "Boost", "PTV")], others)
    (used,) = [m for m in match.structures.values() if m.roi_number == 9] or [None]
    return None if used is None else "PTV" if used.kind == "target" else used.name


MADE_UP = SITE.model_copy(update={"organs": (*SITE.organs, *(SiteOrgan(name=f"Made_Up_{k}") for k in range(3)))})
"""The site with three organs more, so that a study may hold a single one of the seven."""


@pytest.mark.parametrize(("structure", "name"), [(known, name) for known, names in SPELLINGS.items() for name in names])
def test_spelling_is_known(structure, name):
    assert lonely(name) == structure
    assert lonely(name, "ORGAN") == structure


@pytest.mark.parametrize("name", OTHERS)
def test_name_of_something_else_is_not_used(name):
    assert lonely(name) is None
    assert lonely(name, "ORGAN") is None


@pytest.mark.parametrize(
    ("name", "interpreted_type", "used_as"),
    [
        ("PTV", "PTV", "PTV"),
        ("PTV_7000", "CTV", "PTV"),
        ("PTV_7000", "GTV", "PTV"),
        ("Volume 1", "PTV", "PTV"),
        ("SIB 66", "PTV", "PTV"),
        ("PTV", "OAR", "PTV"),
        ("PTV_High", "AVOIDANCE", None),
        ("PTV", "CONTROL", None),
        ("CTV_7000", "PTV", None),
        ("GTV", "PTV", None),
        ("zPTV_opt", "PTV", None),
        ("PTV_Eval", "PTV", None),
        ("Ring", "PTV", None),
        ("Parotid_L-PTV", "PTV", None),
        ("Larynx", "PTV", None),
        ("External", "PTV", None),
        ("Larynx", "AVOIDANCE", "Larynx"),
        ("Larynx", "OAR", "Larynx"),
        ("Larynx", "GTV", None),
        ("Larynx", "CTV", None),
        ("Larynx", "CONTROL", None),
        ("Larynx", "EXTERNAL", None),
        ("Larynx", "SUPPORT", None),
        ("Kontur 1", "EXTERNAL", EXTERNAL),
        ("Skin", "EXTERNAL", EXTERNAL),
        ("BODY", "EXTERNAL", EXTERNAL),
        ("BODY", "SUPPORT", None),
        ("PTV", "EXTERNAL", None),
        ("Volume 1", "CTV", None),
        ("Volume 1", "MARKER", None),
    ],
)
def test_name_and_type_are_weighed_together(name, interpreted_type, used_as):
    assert lonely(name, interpreted_type) == used_as


def test_contradiction_of_name_and_type_is_told():
    match = match_structures(
        SITE, [*rois(*USUAL[:-1]), Roi(50, "Mandible", "CTV"), Roi(51, "zPTV_opt", "PTV"), Roi(52, "PTV_opt")]
    )
    assert match.missing == ("Bone_Mandible",)
    assert match.unused == ("Mandible", "zPTV_opt", "PTV_opt")
    mandible, target, _missing = match.warnings
    assert mandible.startswith("ROI 'Mandible' is typed CTV, but its name says Bone_Mandible: it is not used")
    assert target.startswith("ROI 'zPTV_opt' is typed PTV, but its name says no target: it is not used")


def test_caller_decides_where_name_and_type_contradict_each_other():
    names = [*rois(*USUAL[:-1]), Roi(50, "Mandible", "CTV")]
    match = match_structures(SITE, names, {"Bone_Mandible": "Mandible"})
    assert match.structures["Bone_Mandible"].roi_number == 50
    assert match.warnings == ()


@pytest.mark.parametrize("checkpoint", find_checkpoints().values(), ids=lambda checkpoint: checkpoint.manifest.name)
def test_shipped_models_know_the_same_names(checkpoint):
    if checkpoint.manifest.site.name == SITE.name:
        assert checkpoint.manifest.site.organs == SITE.organs


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Parotid_R", "Parotid_L"),
        ("Parotid_R", "Parotid"),
        ("Parotid_R", "Parotids"),
        ("SpinalCord", "SpinalCord_PRV05"),
        ("Brainstem", "Brainstem+3mm"),
        ("Parotid_L", "Parotid_L-PTV"),
        ("Larynx", "Pharynx"),
        ("Parotid_R", "Parotid_RL"),
        ("Larynx", "Larynx_R"),
        ("Parotid_L", "Parotid_L_R"),
    ],
)
def test_names_of_other_things_have_other_keys(one, other):
    assert name_key(one) != name_key(other)


def test_the_exact_name_goes_before_synonyms():
    match = match_structures(SITE, rois(*USUAL, "Cord", "Spinal Canal"))
    assert match.structures["SpinalCord"].roi_name == "SpinalCord"
    assert match.unused == ("Cord", "Spinal Canal")
    (warning,) = match.warnings
    assert warning == "besides the ROI SpinalCord these could be SpinalCord and are not used: Cord, Spinal Canal"


def test_two_rois_for_one_organ_are_refused_until_the_caller_chooses():
    names = [name for name in USUAL if name != "SpinalCord"] + ["Cord", "Spinal Canal"]
    error = refusal(*names)
    assert error.rule == "structure-ambiguous"
    assert error.details["candidates"] == ["Cord", "Spinal Canal"]
    match = match_structures(SITE, rois(*names), {"SpinalCord": "Cord"})
    assert match.structures["SpinalCord"].roi_name == "Cord"
    assert match.unused == ("Spinal Canal",)


def test_two_outlines_are_refused_unless_one_is_typed():
    assert refusal(*USUAL, "External").rule == "structure-ambiguous"
    match = match_structures(SITE, rois(*USUAL, Roi(99, "Kontur 1", "EXTERNAL")))
    assert match.structures[EXTERNAL].roi_number == 99


def test_without_an_outline_it_says_that_it_derives_one():
    match = match_structures(SITE, rois(*USUAL[1:]))
    assert EXTERNAL not in match.structures
    assert match.warnings == ("the study has no external outline; it is derived from the CT",)


def test_rois_without_contours_are_not_used():
    match = match_structures(SITE, rois(*USUAL[:-1], Roi(9, "Bone_Mandible", contour_count=0)))
    assert match.missing == ("Bone_Mandible",)
    assert match.warnings[0] == "ROI 'Bone_Mandible' has no contours and is not used"
    empty = [Roi(number, name, contour_count=0) for number, name in enumerate(USUAL)]
    assert refusal(*empty).rule == "site-unknown"


def test_another_site_is_refused_with_all_that_is_missing():
    error = refusal("BODY", Roi(2, "PTV", "PTV"), "Bladder", "Rectum", "Femur_Head_L", "SpinalCord", "Larynx")
    assert error.rule == "site-unknown"
    missing = ["Brainstem", "Parotid_R", "Parotid_L", "Esophagus", "Bone_Mandible"]
    assert error.details["missing"] == missing
    assert error.details["found"] == ["SpinalCord", "Larynx"]
    assert all(name in error.message for name in missing)
    assert "PTV" in refusal("Rectum").message


def test_a_few_missing_organs_are_told():
    match = match_structures(SITE, rois("BODY", "PTV70", "Larynx", "SpinalCord", "Brainstem"))
    assert match.missing == ("Parotid_R", "Parotid_L", "Esophagus", "Bone_Mandible")
    assert match.warnings == ("not in the study, predicted without: Parotid_R, Parotid_L, Esophagus, Bone_Mandible",)


def test_no_target_is_refused():
    error = refusal(*[name for name in USUAL if name != "PTV_7000"], "CTV_70")
    assert error.rule == "no-target"
    assert "CTV_70" in error.details["rois"]
    error = refusal(*[name for name in USUAL if name != "PTV_7000"], Roi(50, "PTV_opt", "PTV"))
    assert error.rule == "no-target"
    assert error.details["set_aside"] == ["PTV_opt"]
    assert error.message.endswith("contradict each other: PTV_opt")


def test_two_targets_of_one_name_are_refused():
    assert refusal(*USUAL, Roi(99, "PTV_7000", "PTV")).rule == "structure-ambiguous"


def test_naming_a_target_level_makes_it_the_only_target():
    names = (*USUAL, "PTV_5600", "Boost")
    assert [m.name for m in match_structures(SITE, rois(*names)).targets] == ["PTV_7000", "PTV_5600"]
    match = match_structures(SITE, rois(*names), {"PTV_High": "Boost"})
    assert [m.name for m in match.targets] == ["Boost"]
    assert set(match.unused) == {"PTV_7000", "PTV_5600"}


def test_overrides_take_an_roi_away_from_its_own_name():
    match = match_structures(SITE, rois(*USUAL), {"Parotid_R": "Parotid_L", "Parotid_L": "Parotid_R"})
    assert match.structures["Parotid_R"].roi_name == "Parotid_L"
    assert match.structures["Parotid_L"].roi_name == "Parotid_R"
    alone = match_structures(SITE, rois(*USUAL), {"Parotid_R": "Parotid_L"})
    assert alone.missing == ("Parotid_L",)
    assert "Parotid_R" in alone.unused


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        ({"Rectum": "Larynx"}, "override-unknown"),
        ({"Larynx": "Larynx 2"}, "override-unknown"),
        ({"Larynx": "Empty"}, "override-unknown"),
        ({"Parotid_L": "Larynx", "Larynx": "Larynx"}, "structure-ambiguous"),
        ({"PTV_High": "PTV_7000", "PTV_Low": "PTV_7000"}, "structure-ambiguous"),
    ],
)
def test_overrides_that_cannot_be_are_refused(overrides, rule):
    assert refusal(*USUAL, Roi(50, "Empty", contour_count=0), overrides=overrides).rule == rule

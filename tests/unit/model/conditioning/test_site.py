"""Which ROI is what: names as clinics write them, and what is refused."""

from dataclasses import dataclass

import pytest

from model.case import EXTERNAL
from model.conditioning.head_and_neck import SITE
from model.conditioning.site import is_target, match_structures, name_key
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


@pytest.mark.parametrize(
    ("organ", "names"),
    [
        (
            "Parotid_R",
            ["RightParotid", "R Parotid", "RParotid", "parotid rt.", "PAROTID_RIGHT", "Parotid Gland, right"],
        ),
        ("Parotid_L", ["LeftParotid", "lt parotid", "ParotidL", "Glnd_Parotid_L", "L_PAROTID", "Left Parotid Gland"]),
        ("SpinalCord", ["spinal cord", "SPINAL_CORD", "Cord", "Myelon", "SpinalCanal", "spinalcord"]),
        ("Brainstem", ["BrainStem", "brain stem", "BRAINSTEM", "Hirnstamm"]),
        ("Esophagus", ["Oesophagus", "ESOPHAGUS", "esophagus_s"]),
        ("Bone_Mandible", ["Mandible", "MANDIBLE", "mandibula", "Bone Mandible"]),
        ("Larynx", ["LARYNX", "larynx_sg"]),
    ],
)
def test_synonyms_and_side_words_are_known(organ, names):
    for name in names:
        match = match_structures(SITE, rois(*(name if other == organ else other for other in USUAL)))
        assert match.structures[organ].roi_name == name
        assert not match.missing


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


@pytest.mark.parametrize(
    ("name", "interpreted_type", "expected"),
    [
        ("PTV_7000", "", True),
        ("ptv 70 Gy", "ORGAN", True),
        ("PTV", "CTV", True),
        ("PTVp_7000", "", True),
        ("PTVn1", "", True),
        ("PTVn", "", True),
        ("Boost", "PTV", True),
        ("PTV_High", "AVOIDANCE", False),
        ("PTVring", "", False),
        ("zPTV_7000", "", False),
        ("CTV_7000", "CTV", False),
        ("Parotid-PTV", "", False),
    ],
)
def test_targets_are_typed_or_named_ptv(name, interpreted_type, expected):
    assert is_target(Roi(1, name, interpreted_type)) == expected


def test_no_target_is_refused():
    error = refusal(*[name for name in USUAL if name != "PTV_7000"], "CTV_70")
    assert error.rule == "no-target"
    assert "CTV_70" in error.details["rois"]


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

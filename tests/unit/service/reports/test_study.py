"""What is found in studies, made of the parts that matter here."""

from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from model.case import EXTERNAL
from model.conditioning.head_and_neck import SITE
from model.dicom.plan import PlanSummary
from model.dicom.structure_set import Roi
from model.errors import SiteError
from service.reports.study import choose_structures, find_prescription


def study_of(*rois: tuple[str, str], target_dose_gy: Mapping[int, float] | None = None, highest: float | None = None):
    plan = PlanSummary("1.2", "", 30, target_dose_gy or {}, highest, ()) if target_dose_gy or highest else None
    return SimpleNamespace(
        rois=tuple(Roi(number, name, kind, 1) for number, (name, kind) in enumerate(rois, start=1)), plan=plan
    )


NECK = (
    ("BODY", "EXTERNAL"),
    ("ptv 70", "PTV"),
    ("Rt Parotid", "ORGAN"),
    ("Hirnstamm", "ORGAN"),
    ("cord", "ORGAN"),
    ("CTV", "CTV"),
    ("Thyroid", "ORGAN"),
)


def test_a_known_site_names_its_structures_and_all_others_keep_their_names() -> None:
    choice = choose_structures(study_of(*NECK), [SITE], {})
    assert choice.site is SITE
    assert {name: structure.kind for name, structure in choice.structures.items()} == {
        EXTERNAL: "external",
        "ptv 70": "target",
        "Parotid_R": "oar",
        "Brainstem": "oar",
        "SpinalCord": "oar",
        "CTV": "target",
        "Thyroid": "oar",
    }
    assert "Larynx" in choice.missing
    assert [target.name for target in choice.planning_targets] == ["ptv 70"]


def test_an_unknown_site_keeps_all_names() -> None:
    study = study_of(("Body", "EXTERNAL"), ("PTV", "PTV"), ("Heart", "ORGAN"), ("Heart", "ORGAN"), ("GTV", "GTV"))
    choice = choose_structures(study, [SITE], {})
    assert choice.site is None
    kinds = {name: structure.kind for name, structure in choice.structures.items()}
    assert kinds == {EXTERNAL: "external", "PTV": "target", "Heart": "oar", "Heart (4)": "oar", "GTV": "target"}


def test_without_a_planning_target_the_outline_is_known_by_its_type() -> None:
    choice = choose_structures(study_of(("Patient", "EXTERNAL"), ("Heart", "ORGAN"), ("External", "ORGAN")), [], {})
    assert {name: s.roi_number for name, s in choice.structures.items()} == {EXTERNAL: 1, "Heart": 2, "External (3)": 3}


def test_overrides_must_fit_a_site() -> None:
    choice = choose_structures(study_of(*NECK), [SITE], {"Larynx": "Thyroid"})
    assert choice.structures["Larynx"].roi_number == 7
    with pytest.raises(SiteError):
        choose_structures(study_of(*NECK), [SITE], {"Larynx": "absent"})
    with pytest.raises(SiteError):
        choose_structures(study_of(*NECK), [], {"Larynx": "Thyroid"})


@pytest.mark.parametrize(
    ("study", "parameter_gy", "dose_gy", "source"),
    [
        (study_of(*NECK), None, {"ptv 70": 70.0}, "structure-name"),
        (study_of(*NECK, target_dose_gy={2: 66.0}), None, {"ptv 70": 66.0}, "plan"),
        (study_of(*NECK, target_dose_gy={6: 50.0}), None, {"ptv 70": 70.0, "CTV": 50.0}, None),
        (study_of(*NECK), 60.0, {"ptv 70": 60.0}, "parameter"),
        (study_of(*NECK), {"CTV": 54.0}, {"ptv 70": 70.0, "CTV": 54.0}, None),
        (study_of(("PTV", "PTV"), highest=44.0), None, {"PTV": 44.0}, "plan"),
        (study_of(("PTV", "PTV")), None, None, None),
        (study_of(("Heart", "ORGAN"), target_dose_gy={7: 50.0}), None, None, None),
        (study_of(("PTV", "PTV"), ("GTV 20", "GTV")), None, None, None),
    ],
)
def test_what_is_known_of_the_prescription_is_used(study, parameter_gy, dose_gy, source) -> None:
    choice = choose_structures(study, [SITE], {})
    prescription, _ = find_prescription(study, choice, parameter_gy, None)
    if dose_gy is None:
        assert prescription is None
    else:
        assert prescription.dose_gy == dose_gy
        assert source in {None, prescription.source}


def test_an_implausible_plan_is_told_of_and_an_implausible_parameter_refused() -> None:
    study = study_of(("PTV", "PTV"), target_dose_gy={1: 0.2})
    choice = choose_structures(study, [], {})
    prescription, (warning,) = find_prescription(study, choice, None, None)
    assert prescription is None
    assert "implausible" in warning
    for parameter_gy in (7000.0, {"absent": 50.0}):
        with pytest.raises(SiteError):
            find_prescription(study, choice, parameter_gy, None)

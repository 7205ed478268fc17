"""Where prescribed doses come from."""

import pytest

from model.conditioning.prescription import dose_in_name, resolve_prescription
from model.conditioning.site import Matched
from model.errors import SiteError


def targets(*names: str) -> list[Matched]:
    return [Matched(name, "target", number, name) for number, name in enumerate(names, start=1)]


def resolve(*names: str, gy=None, fractions=None, plan=None, plan_fractions=None, highest=None):
    return resolve_prescription(
        targets(*names),
        parameter_gy=gy,
        parameter_fractions=fractions,
        plan_dose_gy=plan or {},
        plan_fractions=plan_fractions,
        plan_highest_gy=highest,
    )


@pytest.mark.parametrize(
    ("name", "dose_gy"),
    [
        ("PTV_7000", 70.0),
        ("PTV_6996", 69.96),
        ("PTVp_5000", 50.0),
        ("PTV1_5400", 54.0),
        ("PTV70", 70.0),
        ("PTV 66.5Gy", 66.5),
        ("PTV 66,5 Gy", 66.5),
        ("PTV_59.4", 59.4),
        ("PTV 3000 cGy", 30.0),
        ("PTV_Liver_20Gyx3", 60.0),
        ("PTV_Liver_2000x3", 60.0),
        ("PTV 2.12Gy x 33", 69.96),
        ("PTV2_56Gy", 56.0),
        ("PTV_30fx_70Gy", 70.0),
        ("PTV15mm 60Gy", 60.0),
        ("PTV 12.5 mm 60", 60.0),
        ("PTV 95% 5400", 54.0),
        ("PTV", None),
        ("PTVn1", None),
        ("PTV_High", None),
        ("PTV_20230512", None),
        ("PTV 150", None),
        ("PTV_70x35", None),
    ],
)
def test_names_tell_doses_in_gy_and_cgy(name, dose_gy):
    assert dose_in_name(name) == (None if dose_gy is None else pytest.approx(dose_gy))


def test_the_parameter_goes_before_the_plan_and_the_plan_before_names():
    prescription, warnings = resolve("PTV_7000", "PTV_6300", "PTV_5600", gy={"PTV_7000": 66.0}, plan={1: 70.0, 2: 60.0})
    assert prescription.dose_gy == {"PTV_7000": 66.0, "PTV_6300": 60.0, "PTV_5600": 56.0}
    assert warnings[0] == "'prescription_gy' gives 66 Gy for PTV_7000, the plan 70 Gy; the parameter is used"


@pytest.mark.parametrize(
    ("settings", "source", "dose_gy"),
    [
        ({"gy": 50}, "parameter", 50.0),
        ({"gy": {"PTV_7000": 50.0}}, "parameter", 50.0),
        ({"plan": {1: 60.0}}, "plan", 60.0),
        ({"highest": 64.0}, "plan", 64.0),
        ({"plan": {1: 60.0}, "highest": 64.0}, "plan", 60.0),
        ({}, "structure-name", 70.0),
    ],
)
def test_the_source_is_told(settings, source, dose_gy):
    prescription, warnings = resolve("PTV_7000", **settings)
    assert (prescription.source, prescription.dose_gy) == (source, {"PTV_7000": dose_gy})
    assert bool(warnings) == (dose_gy != 70.0)  # the name tells another dose


def test_what_most_doses_come_from_is_the_source_and_the_first_where_sources_tie():
    assert resolve("PTV_70", "PTV_56", "A", gy={"A": 50.0})[0].source == "structure-name"
    assert resolve("PTV_70", "A", gy={"A": 50.0})[0].source == "structure-name"
    assert resolve("A", "PTV_70", gy={"A": 50.0}, plan={2: 70.0})[0].source == "plan"


def test_the_plans_highest_dose_is_not_spread_over_several_targets():
    with pytest.raises(SiteError) as caught:
        resolve("PTV", "PTV_5600", highest=70.0)
    assert caught.value.rule == "prescription-missing"
    assert caught.value.details == {"targets": ["PTV"]}


@pytest.mark.parametrize(("asked", "planned", "expected"), [(30, 35, 30), (None, 35, 35), (None, None, None)])
def test_fractions(asked, planned, expected):
    assert resolve("PTV70", fractions=asked, plan_fractions=planned)[0].fractions == expected


@pytest.mark.parametrize(
    ("names", "settings", "rule"),
    [
        (("PTV_7000", "PTV_5600"), {"gy": 70.0}, "prescription-ambiguous"),
        (("PTV_7000",), {"gy": {"PTV_5600": 56.0}}, "prescription-ambiguous"),
        (("PTV",), {}, "prescription-missing"),
        (("PTV",), {"gy": 7000.0}, "prescription-implausible"),
        (("PTV",), {"gy": 0.0}, "prescription-implausible"),
        (("PTV",), {"gy": float("nan")}, "prescription-implausible"),
        (("PTV",), {"plan": {1: 0.5}}, "prescription-implausible"),
    ],
)
def test_what_cannot_be_known_is_refused(names, settings, rule):
    with pytest.raises(SiteError) as caught:
        resolve(*names, **settings)
    assert caught.value.rule == rule


def test_disagreement_between_sources_is_told():
    _, warnings = resolve("PTV_7000", "PTV_5600", plan={1: 66.0})
    assert any("PTV_7000" in w and "66 Gy" in w for w in warnings)
    assert any("PTV_5600" in w and "the plan prescribes nothing" in w for w in warnings)

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from model.case import Prescription
from model.conditioning import head_and_neck, rectum
from model.conditioning.site import Site
from model.dosimetry import Dvh
from model.dosimetry.goals import EACH_TARGET, HIGHEST_TARGET, Goal, GoalSet, find_goals, judge, read_goals
from model.errors import GoalsError
from service.wiring import SHIPPED_GOALS

HISTOGRAM = Dvh(np.arange(101, dtype=np.float32), 0.01)
"""Doses of 0, 1, … 100 Gy, each in 0.01 cc."""

FILE = """
site = "pelvis"
[sources]
BOOK = "A. Author, A Book, 2001"
[[goal]]
structure = "Rectum"
metric = "V50Gy"
at_most = "50 %"
meaning = "bleeding"
source = "BOOK"
"""


def goal(metric: str, structure: str = "Rectum", **limit: str) -> Goal:
    return Goal(structure=structure, metric=metric, meaning="", source="BOOK", **(limit or {"at_most": "50 Gy"}))


@pytest.mark.parametrize(
    ("metric", "value"),
    [("Dmean", 50), ("Dmax", 100), ("Dmin", 0), ("D95%", 5), ("D0.5cc", 50.5), ("D99.5%", 0.5)],
)
def test_a_dose(metric: str, value: float) -> None:
    assert goal(metric).unit == "Gy"
    assert goal(metric).value(HISTOGRAM, None) == pytest.approx(value, abs=0.1)


@pytest.mark.parametrize(("metric", "structure", "value"), [("V50Gy", "Rectum", 51), ("V110%", EACH_TARGET, 46)])
def test_a_share_of_volume(metric: str, structure: str, value: float) -> None:
    wanted = goal(metric, structure, at_most="20 %")
    assert wanted.unit == "%"
    assert wanted.value(HISTOGRAM, 50.0) == pytest.approx(100 * value / 101)
    assert wanted.limit(50.0) == 20.0


def test_a_volume_that_the_structure_does_not_have() -> None:
    assert goal("D2cc").value(HISTOGRAM, None) is None


def test_a_limit_may_be_relative_to_the_prescription() -> None:
    assert goal("D95%", EACH_TARGET, at_least="95 %").limit(60.0) == 57.0
    assert goal("D95%", at_most="45.5 Gy").limit(None) == 45.5


@pytest.mark.parametrize(
    ("metric", "structure", "limit"),
    [
        ("D50", "Rectum", {"at_most": "50 Gy"}),
        ("V50", "Rectum", {"at_most": "50 %"}),
        ("D50Gy", "Rectum", {"at_most": "50 Gy"}),
        ("V2cc", "Rectum", {"at_most": "50 %"}),
        ("D150%", "Rectum", {"at_most": "50 Gy"}),
        ("Dmean", "Rectum", {"at_most": "50"}),
        ("Dmean", "Rectum", {"at_most": "fifty Gy"}),
        ("V50Gy", "Rectum", {"at_most": "50 Gy"}),
        ("Dmean", "Rectum", {"at_most": "50 %"}),
        ("V110%", "Rectum", {"at_most": "50 %"}),
        ("Dmean", "Rectum", {"at_most": "50 Gy", "at_least": "1 Gy"}),
        ("Dmean", "Rectum", {}),
    ],
)
def test_what_makes_no_sense_is_refused(metric: str, structure: str, limit: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Goal(structure=structure, metric=metric, meaning="", source="BOOK", **limit)


def test_goals_of_targets_go_to_those_that_are_prescribed() -> None:
    goals = GoalSet(
        site="",
        sources={"BOOK": ""},
        goal=(
            goal("D95%", EACH_TARGET, at_least="100 %"),
            goal("V110%", HIGHEST_TARGET, at_most="20 %"),
            goal("Dmean", "Parotid_L | Parotid_R | Parotid", at_most="26 Gy"),
            goal("Dmax", "Cochlea_L", at_most="45 Gy"),
        ),
    )
    colder = Dvh(HISTOGRAM.doses_gy / 2, 0.01)
    histograms = {"low": colder, "high": HISTOGRAM, "Parotid_L": HISTOGRAM, "Parotid_R": colder}
    prescription = Prescription({"low": 50.0, "high": 60.0}, None, "plan")
    judged = judge(goals, histograms, prescription)
    assert [item.structure for item in judged] == [
        "high",
        "low",
        "high",
        "Parotid_L or Parotid_R or Parotid",
        "Cochlea_L",
    ]
    assert [item.limit for item in judged] == [60.0, 50.0, 20.0, 26.0, 45.0]
    # The better parotid counts
    assert [item.value for item in judged][3:] == [25.0, None]
    assert [item.structure for item in judge(goals, histograms, None)] == [item.structure for item in judged][3:]


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pelvis.toml"
    path.write_text(FILE)
    goals = read_goals(path)
    assert (goals.site, goals.goal[0].metric, goals.sources["BOOK"]) == ("pelvis", "V50Gy", "A. Author, A Book, 2001")


@pytest.mark.parametrize(
    "text", [FILE.replace("BOOK =", "NOVEL ="), FILE.replace("V50Gy", "V50"), FILE + "[", FILE + 'ok = "no"\n', "\xff"]
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pelvis.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(GoalsError, match=r"pelvis\.toml"):
        read_goals(path)


def test_later_folders_take_the_place_of_earlier_ones(tmp_path: Path) -> None:
    for name in ("shipped", "own", "twice"):
        (tmp_path / name).mkdir()
    (tmp_path / "shipped" / "pelvis.toml").write_text(FILE)
    (tmp_path / "shipped" / "thorax.toml").write_text(FILE.replace("pelvis", "thorax"))
    (tmp_path / "own" / "ours.toml").write_text(FILE.replace("50 %", "40 %"))
    found = find_goals((tmp_path / "shipped", tmp_path / "own"))
    assert (found["pelvis"].goal[0].at_most, found["thorax"].goal[0].at_most) == ("40 %", "50 %")
    for name in ("a", "b"):
        (tmp_path / "twice" / f"{name}.toml").write_text(FILE)
    with pytest.raises(GoalsError, match="two files"):
        find_goals((tmp_path / "twice",))
    with pytest.raises(GoalsError, match="no folder"):
        find_goals((tmp_path / "absent",))


@pytest.mark.parametrize(
    ("site", "targets"), [(head_and_neck.SITE, {EACH_TARGET, HIGHEST_TARGET}), (rectum.SITE, {EACH_TARGET})]
)
def test_the_shipped_goals_are_of_structures_that_the_site_knows(site: Site, targets: set[str]) -> None:
    goals = find_goals((SHIPPED_GOALS,))[site.name]
    known = {organ.name for organ in site.organs} | targets
    assert {name.strip() for goal in goals.goal for name in goal.structure.split("|")} == known
    assert all(goal.meaning for goal in goals.goal)


def test_the_shipped_goals_are_the_published_ones() -> None:
    goals = find_goals((SHIPPED_GOALS,))[head_and_neck.SITE.name]
    # QUANTEC's table 1 and the protocol's page have these numbers
    limits = {(goal.structure, goal.metric, goal.source): goal.at_most or goal.at_least for goal in goals.goal}
    assert limits["Brainstem", "D0.1cc", "QUANTEC"] == "54 Gy"
    assert limits["Larynx", "Dmean", "QUANTEC"] == "44 Gy"
    assert limits["Parotid_L | Parotid_R", "Dmean", "RTOG H-0225"] == "26 Gy"
    assert limits[EACH_TARGET, "D99%", "RTOG H-0225"] == "93 %"

"""Clinical goals: what a dose to a structure should or must not exceed, read from a file that people edit.

A goal names a structure, a metric of its DVH and a limit. `judge` finds the value of every goal; whether it is met is
for the caller to say, after rounding: a value that is shown as 45.00 Gy meets a limit of 45 Gy.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from model.case import Prescription
from model.dosimetry.dvh import Dvh
from model.errors import GoalsError

EACH_TARGET = "each target"
HIGHEST_TARGET = "highest target"

Unit = Literal["Gy", "%"]

_METRIC = re.compile(r"D(?P<statistic>mean|max|min)|(?P<letter>[DV])(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>%|cc|Gy)")
_LIMIT = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>Gy|%)")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Goal(_Frozen):
    """One goal; see the shipped files for what the texts may be.

    Raises
    ------
    pydantic.ValidationError
        If metric or limit cannot be read, or do not fit each other.
    """

    structure: str
    metric: str
    at_most: str | None = None
    at_least: str | None = None
    meaning: str
    source: str

    @model_validator(mode="after")
    def _check(self) -> "Goal":
        metric = _METRIC.fullmatch(self.metric)
        if metric is None or (metric["letter"], metric["unit"]) in {("D", "Gy"), ("V", "cc")}:
            raise ValueError(f"{self.metric!r} is no metric; Dmean, Dmax, Dmin, D95%, D0.1cc, V50Gy and V110% are")
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a goal has one limit, at_most or at_least")
        limit = _LIMIT.fullmatch(self._limit)
        if limit is None or (limit["unit"] == "Gy" and self.unit == "%"):
            raise ValueError(f"{self._limit!r} is no limit of {self.metric}; '45 Gy' and '95 %' are of a dose")
        if metric["letter"] == "D" and metric["unit"] == "%" and not 0 <= float(metric["number"]) <= 100:
            raise ValueError(f"{self.metric} asks for more than the whole volume")
        relative = (limit["unit"] == "%" and self.unit == "Gy") or (metric["letter"], metric["unit"]) == ("V", "%")
        if relative and self.structure not in {EACH_TARGET, HIGHEST_TARGET}:
            raise ValueError("a percentage of the prescribed dose needs a target as its structure")
        return self

    @property
    def unit(self) -> Unit:
        """Unit of the metric's value: doses are in Gy, volumes in percent."""
        return "%" if self.metric.startswith("V") else "Gy"

    @property
    def _limit(self) -> str:
        return self.at_most or self.at_least or ""

    def limit(self, prescribed_gy: float | None) -> float:
        """Limit in the unit of the metric's value."""
        number, unit = float(self._limit.rstrip("Gy% ")), self._limit[-1]
        return number / 100.0 * (prescribed_gy or 0.0) if unit == "%" and self.unit == "Gy" else number

    def value(self, histogram: Dvh, prescribed_gy: float | None) -> float | None:
        """Value of the metric; None if the structure is smaller than the volume that it asks for."""
        metric = _METRIC.fullmatch(self.metric)
        assert metric is not None  # noqa: S101 - validated
        if metric["statistic"]:
            return {"mean": histogram.mean_gy, "max": histogram.max_gy, "min": histogram.min_gy}[metric["statistic"]]
        number = float(metric["number"])
        match metric["letter"], metric["unit"]:
            case "D", "%":
                return histogram.dose_at_volume_percent(number)
            case "D", "cc":
                return histogram.dose_at_volume_cc(number) if histogram.volume_cc >= number else None
            case "V", "Gy":
                return histogram.volume_percent_at(number)
            case _:
                return histogram.volume_percent_at(number / 100.0 * (prescribed_gy or 0.0))


class GoalSet(_Frozen):
    """The goals of a site, and where they come from; `sources` explains the short names that goals cite."""

    site: str
    sources: dict[str, str]
    goal: tuple[Goal, ...]

    @model_validator(mode="after")
    def _sources_are_known(self) -> "GoalSet":
        unknown = {goal.source for goal in self.goal} - set(self.sources)
        if unknown:
            raise ValueError(f"goals cite sources that are not listed: {', '.join(sorted(unknown))}")
        return self


@dataclass(frozen=True)
class Judged:
    """A goal and what a dose makes of it.

    Parameters
    ----------
    structure
        Whose value it is, or whose it would be if the study had it.
    limit, value
        In the goal's unit; no value if the study lacks the structure or it is too small.
    """

    goal: Goal
    structure: str
    limit: float
    value: float | None


def read_goals(path: Path) -> GoalSet:
    """Read a file of goals.

    Raises
    ------
    GoalsError
        If it cannot be read.
    """
    try:
        return GoalSet.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise GoalsError(f"the goals in {path.name} cannot be used: {reasons}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise GoalsError(f"the goals in {path.name} cannot be read: {error}") from None


def find_goals(folders: Sequence[Path]) -> dict[str, GoalSet]:
    """Read all files of goals in some folders, by site; a later folder takes the place of an earlier one's.

    Raises
    ------
    GoalsError
        If one cannot be read, or two in one folder are for the same site.
    """
    found: dict[str, GoalSet] = {}
    for folder in folders:
        if not folder.is_dir():
            raise GoalsError(f"{folder} is no folder of goals")
        here: dict[str, GoalSet] = {}
        for path in sorted(folder.glob("*.toml")):
            goals = read_goals(path)
            if goals.site in here:
                raise GoalsError(f"two files of {folder} have goals for {goals.site}")
            here[goals.site] = goals
        found |= here
    return found


def judge(goals: GoalSet, histograms: Mapping[str, Dvh], prescription: Prescription | None) -> list[Judged]:
    """Evaluate goals on the DVHs of a dose, by structure name.

    Goals for targets are left out where nothing is prescribed.
    """
    prescribed = dict(prescription.dose_gy) if prescription else {}
    return [judged for goal in goals.goal for judged in _judge(goal, histograms, prescribed)]


def _judge(goal: Goal, histograms: Mapping[str, Dvh], prescribed: Mapping[str, float]) -> Iterator[Judged]:
    if goal.structure in {EACH_TARGET, HIGHEST_TARGET}:
        targets = sorted(prescribed, key=lambda name: -prescribed[name])
        for name in targets if goal.structure == EACH_TARGET else targets[:1]:
            value = goal.value(histograms[name], prescribed[name]) if name in histograms else None
            yield Judged(goal, name, goal.limit(prescribed[name]), value)
        return
    names = [name.strip() for name in goal.structure.split("|")]
    values = {name: goal.value(histograms[name], None) for name in names if name in histograms}
    known = {name: value for name, value in values.items() if value is not None}
    better = min if goal.at_most else max
    best = better(known.values(), default=None)
    yield Judged(goal, " or ".join(names), goal.limit(None), best)

"""Tables that compare systems on the same patients."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.evaluation.scores import METRICS, Metric, Scores
from model.evaluation.statistics import PairedTests, Summary, paired_tests, summary

COMPARED = tuple(metric for metric in METRICS if metric.better)
"""Columns of the tables."""

SIGNIFICANT = 0.05
"""Marked are p-values below it."""

ARROWS = {"less": "↓", "more": "↑", "one": "→ 1"}

Extras = Mapping[str, Mapping[str, str]]
"""System → column → text: what is known of a system besides its scores."""


def patients_csv(systems: Mapping[str, Scores]) -> str:
    """CSV of every figure of every patient, one row per system and patient; empty where there is none."""
    rows = [
        [label, patient.identifier, *(_number(metric.value(patient)) for metric in METRICS)]
        for label, scores in systems.items()
        for patient in scores.patients
    ]
    return _csv([["system", "patient", *(metric.key for metric in METRICS)], *rows])


def comparison_csv(
    systems: Mapping[str, Scores], main: str, extras: Extras | None = None, metrics: Sequence[Metric] = COMPARED
) -> str:
    """CSV of mean, standard deviation, and p-values against the main system; one row per system.

    Parameters and errors are those of `comparison_markdown`.
    """
    systems = _paired(systems, main)
    extras = extras or {}
    names = _extra_columns(extras)
    rows = [["system", *(f"{m.key} {part}" for m in metrics for part in ("mean", "sd", "p_t", "p_wilcoxon")), *names]]
    for label, scores in systems.items():
        row = [label]
        for metric in metrics:
            mean, sd, _ = summary(scores.values(metric))
            row += map(_number, (mean, sd, *_against(scores, systems[main], metric)))
        rows.append(row + [extras.get(label, {}).get(name, "") for name in names])
    return _csv(rows)


def comparison_markdown(
    systems: Mapping[str, Scores], main: str, extras: Extras | None = None, metrics: Sequence[Metric] = COMPARED
) -> str:
    """Markdown table of mean ± standard deviation, one row per system, the best mean of each column in bold.

    A figure that no system has is left out.

    Parameters
    ----------
    systems
        Scores by the system's label, in the order of the rows.
    main
        Label of the system that the others are tested against.
    extras
        Further columns, as text.
    metrics
        The columns.

    Raises
    ------
    ValueError
        If there is no system of the main one's label, or the systems' patients are not the same.
    """
    systems = _paired(systems, main)
    extras = extras or {}
    names = _extra_columns(extras)
    columns: list[tuple[Metric, dict[str, Summary]]] = []
    for metric in metrics:
        of_systems = {label: summary(scores.values(metric)) for label, scores in systems.items()}
        if any(s.patients for s in of_systems.values()):
            columns.append((metric, of_systems))
    best = [_best(metric, of_systems) for metric, of_systems in columns]
    header = ["System", *(f"{m.title} {ARROWS.get(m.better or '', '')}".strip() for m, _ in columns), *names]
    lines = [_row(header), _row(["---"] * len(header))]
    for label, scores in systems.items():
        cells = [label]
        for (metric, of_systems), leaders in zip(columns, best, strict=True):
            text = _mean_sd(of_systems[label], metric.decimals)
            tests = _against(scores, systems[main], metric)
            marks = ("\\*" if tests.t < SIGNIFICANT else "") + ("†" if tests.wilcoxon < SIGNIFICANT else "")
            cells.append((f"**{text}**" if label in leaders else text) + marks)
        lines.append(_row(cells + [extras.get(label, {}).get(name, "") for name in names]))
    note = (
        f"Mean ± standard deviation over {len(systems[main].patients)} patients; bold: the best mean. "
        f"Differs from {main} with p < {SIGNIFICANT:g}: \\* paired t-test, † Wilcoxon signed-rank test. "
        "Where one is right, distances from one are tested."
    )
    return "\n".join([*lines, "", note]) + "\n"


def write_comparison(folder: Path, systems: Mapping[str, Scores], main: str, extras: Extras | None = None) -> None:
    """Write ``patients.csv``, ``comparison.csv`` and ``comparison.md`` into a folder.

    Parameters and errors are those of `comparison_markdown`.
    """
    texts = {
        "comparison.md": comparison_markdown(systems, main, extras),
        "comparison.csv": comparison_csv(systems, main, extras),
        "patients.csv": patients_csv(systems),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _paired(systems: Mapping[str, Scores], main: str) -> dict[str, Scores]:
    """Return the systems with all patients in the main system's order."""
    if main not in systems:
        raise ValueError(f"there is no system {main!r} among {', '.join(systems)}")
    order = [patient.identifier for patient in systems[main].patients]
    paired = {}
    for label, scores in systems.items():
        patients = {patient.identifier: patient for patient in scores.patients}
        if sorted(order) != sorted(p.identifier for p in scores.patients) or len(patients) != len(order):
            raise ValueError(f"{label!r} was not scored on the patients of {main!r}, each once")
        paired[label] = Scores(tuple(patients[identifier] for identifier in order))
    return paired


def _badness(metric: Metric, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn values, or means, into such as are better when they are less."""
    if metric.better == "one":
        return np.abs(values - 1.0)
    return -values if metric.better == "more" else values


def _against(scores: Scores, main: Scores, metric: Metric) -> PairedTests:
    return paired_tests(_badness(metric, scores.values(metric)), _badness(metric, main.values(metric)))


def _best(metric: Metric, of_systems: Mapping[str, Summary]) -> set[str]:
    """Labels of the systems with the best mean."""
    badness = _badness(metric, np.array([s.mean for s in of_systems.values()]))
    return {label for label, value in zip(of_systems, badness, strict=True) if value == np.nanmin(badness)}


def _extra_columns(extras: Extras) -> list[str]:
    return list(dict.fromkeys(name for texts in extras.values() for name in texts))


def _mean_sd(of_system: Summary, decimals: int) -> str:
    if not of_system.patients:
        return "–"
    spread = "" if np.isnan(of_system.sd) else f" ± {of_system.sd:.{decimals}f}"
    return f"{of_system.mean:.{decimals}f}{spread}"


def _number(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.6g}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
